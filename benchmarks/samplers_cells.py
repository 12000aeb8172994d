"""The cells that `samplers.py` compares orders on: real ones, and simulated ones whose lengths vary more.

Real: pbmc3k ranked with Geneformer's dictionary and medians, of the genes that a tenth to a half of the cells express,
so that a training takes half a minute and lengths still vary twelvefold. Simulated: the package's own simulator, whose
donors stand for cell types here (each has its own activity of every factor), and each type is sequenced to its own
depth, from all counts down to one in 400: as in real corpora, a cell's length tells its type.
"""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from omics_transformers.data_scripts.cells import build_cells
from omics_transformers.data_scripts.simulated_regulome import RegulomeSettings, draw_regulome
from omics_transformers.training.gene_vocabulary import read_gene_vocabulary
from omics_transformers.training.masked_gene_data import read_tokenised_cells

REAL, SIMULATED = "pbmc3k", "simulated"
GENES_KEPT = "genes.txt"  # beside the cells: the genes to train on
LEAST_SHARE, MOST_SHARE = 0.1, 0.5
N_TYPES, LEAST_DEPTH, DEPTH_SPREAD = 8, 1 / 400, 0.3
WORLD = {"n_genes": 600, "n_factors": 24, "targets_per_factor": 20, "expressed_fraction": 0.3}


def build_real(data: Path, folder: Path) -> None:
    """Rank tokens of pbmc3k, and the genes to keep."""
    tables = data / "genesets"
    build_cells(
        data / "rna" / "pbmc3k_raw_500labelled.h5ad",
        folder,
        token_dictionary=tables / "geneformer_v1_token_dictionary.json.gz",
        gene_medians=tables / "geneformer_v1_gene_medians.json.gz",
    )
    vocabulary, cells = read_gene_vocabulary(folder), read_tokenised_cells(folder)
    share = cells.occurrences(len(vocabulary)) / len(cells)
    kept = np.flatnonzero((share >= LEAST_SHARE) & (share <= MOST_SHARE))
    _write_genes(folder, [vocabulary.tokens[number] for number in kept])


def build_simulated(folder: Path, *, n_cells: int, seed: int) -> None:
    """Rank tokens of simulated cells of eight types, from deeply sequenced to shallow."""
    regulome = draw_regulome(RegulomeSettings(n_donors=N_TYPES, n_cells=n_cells, **WORLD), seed=seed)
    random = np.random.default_rng(seed)
    depth = np.geomspace(1, LEAST_DEPTH, N_TYPES)[regulome.donor_of_cell]
    depth = np.minimum(depth * np.exp(random.normal(0, DEPTH_SPREAD, n_cells)), 1)
    counts = regulome.counts.copy()
    counts.data = random.binomial(counts.data, np.repeat(depth, np.diff(counts.indptr)))
    counts.eliminate_zeros()
    obs = pd.DataFrame({"cell_type": [f"type_{number + 1}" for number in regulome.donor_of_cell]})
    obs.index = [f"cell{number}" for number in range(n_cells)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".h5ad")
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(regulome.genes.gene_id))).write_h5ad(path)
    build_cells(path, folder, obs_columns=["cell_type"])
    _write_genes(folder, read_gene_vocabulary(folder).tokens)


def _write_genes(folder: Path, tokens: list[str]) -> None:
    genes = [token for token in tokens if not token.startswith("<")]
    (folder / GENES_KEPT).write_text("\n".join(genes) + "\n", encoding="utf-8")
