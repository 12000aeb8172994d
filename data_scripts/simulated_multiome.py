"""A simulated multiome as files in the formats of real data: RNA cells, ATAC cells and paired cells of one tissue.

So alignment, pre-training, imputation and cell types can be scored against planted links; multiome_world.py says what
the world is like.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from .multiome_world import MultiomeSettings, MultiomeWorld, draw_multiome
from .whole_folder import require_free, whole_folder

RNA_FILE, ATAC_FILE, PAIRED_FILE, GENES_FILE, TRUTH_FILE = (
    "rna.h5ad",
    "atac.h5ad",
    "paired.h5mu",
    "genes.gtf",
    "truth.tsv",
)


def simulate_multiome(output: str | Path, *, seed: int, overwrite: bool = False, **settings: Any) -> MultiomeWorld:
    """Write genes.gtf, rna.h5ad, atac.h5ad, paired.h5mu, truth.tsv and simulation.json.

    rna.h5ad holds counts, cells x genes, by gene id, with a column `gene_symbols`; atac.h5ad holds reads, cells x
    peaks, which are ends of fragments, named contig:start-end (0-based, half-open); paired.h5mu both, as `rna` and
    `atac`. Tables of cells have the columns `cell_type`, `donor` and `batch`. truth.tsv has a row a planted link: peak,
    gene, weight (of the peak in the gene's expression) and distance (bp from the TSS). simulation.json holds the seed,
    the settings and `oracle`, how far a perfect predictor of the paired cells' ATAC activity would correlate with it,
    who knows all of a cell's state, or its type alone. A data set of no cells is not written.

    Args:
        output: a folder that does not exist yet, or any with `overwrite`; it appears only when complete.
        seed: the same seed and settings give the same bytes.
        overwrite: replace the folder.
        settings: fields of `MultiomeSettings`.

    Returns:
        the truth, as in the files.

    Raises:
        FileExistsError: if the folder exists and `overwrite` is false.
        ValueError: if the settings do not fit one another.
    """
    output = Path(output)
    chosen = MultiomeSettings(**settings)
    require_free(output, overwrite=overwrite)
    world = draw_multiome(chosen, seed=seed)
    summary = {
        "seed": seed,
        **asdict(chosen),
        "peaks": len(world.peaks),
        "links": len(world.links),
        "oracle": world.oracle._asdict(),
    }
    with whole_folder(output) as partial:
        (partial / "data").rmdir()
        for name, write in _WRITERS.items():
            write(world, partial / name)
        (partial / "simulation.json").write_text(json.dumps(summary, indent=1) + "\n")
    return world


def _write_genes(world: MultiomeWorld, path: Path) -> None:
    """GTF, 1-based and closed."""
    with path.open("w") as file:
        file.write("#!genome-build simulated\n")
        for gene in world.genes.itertuples():
            names = f'gene_id "{gene.gene_id}"; gene_name "{gene.symbol}"; gene_type "protein_coding";'
            transcript = f'{names} transcript_id "{gene.gene_id}T1"; transcript_type "protein_coding";'
            for feature, attributes in (("gene", names), ("transcript", transcript), ("exon", transcript)):
                row = (gene.contig, "simulated", feature, gene.start + 1, gene.end, ".", gene.strand, ".", attributes)
                file.write("\t".join(map(str, row)) + "\n")


def _write_rna(world: MultiomeWorld, path: Path) -> None:
    if (world.cells.dataset == "rna").any():
        _rna(world, "rna").write_h5ad(path, compression="gzip")


def _write_atac(world: MultiomeWorld, path: Path) -> None:
    if (world.cells.dataset == "atac").any():
        _atac(world, "atac").write_h5ad(path, compression="gzip")


def _write_paired(world: MultiomeWorld, path: Path) -> None:
    import mudata

    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": _rna(world, "paired"), "atac": _atac(world, "paired")})
        both.obs = both["rna"].obs.copy()
        both.write_h5mu(path, compression="gzip")


def _write_truth(world: MultiomeWorld, path: Path) -> None:
    world.links.to_csv(path, sep="\t", index=False)


def _rna(world: MultiomeWorld, dataset: str) -> Any:
    genes = pd.DataFrame({"gene_symbols": world.genes.symbol.to_numpy()}, index=world.genes.gene_id.to_numpy())
    return _annotated(world, dataset, world.rna, world.has_rna, genes)


def _atac(world: MultiomeWorld, dataset: str) -> Any:
    peaks = pd.DataFrame(index=world.peaks.peak.to_numpy())
    return _annotated(world, dataset, world.reads, world.has_atac, peaks)


def _annotated(
    world: MultiomeWorld, dataset: str, counts: sparse.csr_matrix, is_measured: np.ndarray, features: pd.DataFrame
) -> Any:
    """AnnData of one data set's cells in one modality."""
    import anndata

    cells = world.cells[is_measured]
    is_in = (cells.dataset == dataset).to_numpy()
    labels = cells.loc[is_in, ["cell_type", "donor", "batch"]].astype("category")
    return anndata.AnnData(X=counts[is_in], obs=labels, var=features)


_WRITERS: dict[str, Callable[[MultiomeWorld, Path], None]] = {
    GENES_FILE: _write_genes,
    RNA_FILE: _write_rna,
    ATAC_FILE: _write_atac,
    PAIRED_FILE: _write_paired,
    TRUTH_FILE: _write_truth,
}
