"""A simulated world of accessibility as files in the formats of real data.

So the chain from reads to a ranking model can be scored against a planted order; accessible_world.py says what the
world is like.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from .accessible_world import (
    CELL_TYPES,
    MARGIN_BP,
    MOTIFS,
    SHORTEST_FRAGMENT_BP,
    AccessibilitySettings,
    AccessibleWorld,
    draw_accessibility,
)
from .simulated_genome import write_fasta
from .whole_folder import require_free, whole_folder

# One to train, one to validate, and five to test: intervals come from contigs that differ.
CONTIGS = {"chrA": 6_000, "chrB": 600, "chrC": 240, "chrD": 240, "chrE": 240, "chrF": 240, "chrG": 240}

Array = npt.NDArray[Any]


def simulate_accessibility(
    output: str | Path,
    *,
    seed: int,
    contigs: Mapping[str, int] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> AccessibleWorld:
    """Write genome.fa, cells.h5ad, cells.tsv, peaks.bed, fragments.tsv.gz, truth.tsv and simulation.json.

    cells.h5ad holds reads, cells x peaks, with a column `cell_type`, and fragments.tsv.gz (plain gzip, sorted by contig
    and start) the fragments that these are the ends of, in the cells of cells.tsv (barcode, cell_type). truth.tsv has a
    row a peak: its place, copies of each motif, and expected fragments a cell in each cell type. simulation.json holds
    the seed, the settings and `order_kept`, the share of spans whose observed order is the expected one: the ceiling of
    any model.

    Args:
        output: a folder that does not exist yet, or any with `overwrite`; it appears only when complete.
        seed: the same seed and settings give the same bytes.
        contigs: name -> spans; `CONTIGS` by default: one contig to train, one to validate, five to test.
        overwrite: replace the folder.
        settings: fields of `AccessibilitySettings`.

    Returns:
        the truth, as in the files.

    Raises:
        FileExistsError: if the folder exists and `overwrite` is false.
        ValueError: if the settings do not fit one another.
    """
    output = Path(output)
    chosen = AccessibilitySettings(**settings)
    require_free(output, overwrite=overwrite)
    spans = dict(CONTIGS if contigs is None else contigs)
    world = draw_accessibility(chosen, spans, seed=seed)
    summary = {
        "seed": seed,
        "contigs": spans,
        **asdict(chosen),
        "motifs": {name: motif.decode() for name, motif in MOTIFS.items()},
        "peaks": len(world.peaks),
        "fragments": int(world.fragments.sum()),
        "order_kept": world.order_kept,
    }
    with whole_folder(output) as partial:
        (partial / "data").rmdir()
        for name, write in _WRITERS.items():
            write(world, partial / name, seed)
        (partial / "simulation.json").write_text(json.dumps(summary, indent=1) + "\n")
    return world


def _write_genome(world: AccessibleWorld, path: Path, _: int) -> None:
    write_fasta(world.contigs, path)


def _write_cells(world: AccessibleWorld, path: Path, _: int) -> None:
    import anndata

    cell_types = pd.Categorical.from_codes(world.type_of_cell, list(CELL_TYPES))
    anndata.AnnData(
        X=world.reads,
        obs=pd.DataFrame({"cell_type": cell_types}, index=world.cells),
        var=pd.DataFrame(index=world.peaks.peak.to_numpy()),
    ).write_h5ad(path, compression="gzip")


def _write_labels(world: AccessibleWorld, path: Path, _: int) -> None:
    table = pd.DataFrame({"barcode": world.cells, "cell_type": np.array(CELL_TYPES)[world.type_of_cell]})
    table.to_csv(path, sep="\t", index=False)


def _write_peaks(world: AccessibleWorld, path: Path, _: int) -> None:
    world.peaks[["contig", "start", "end", "peak"]].to_csv(path, sep="\t", index=False, header=False)


def _write_truth(world: AccessibleWorld, path: Path, _: int) -> None:
    world.peaks.drop(columns="span").to_csv(path, sep="\t", index=False)


def _write_fragments(world: AccessibleWorld, path: Path, seed: int) -> None:
    """contig, start, end, cell, reads; sorted within the contigs, which stand in the genome's order."""
    cell, peak, start, end = _place_fragments(world, np.random.default_rng((seed, 1)))
    contig = pd.Categorical(world.peaks.contig, categories=list(world.contigs)).codes
    order = np.lexsort((cell, end, start, contig[peak]))
    names = pa.DictionaryArray.from_arrays(pa.array(contig[peak][order]), pa.array(list(world.contigs)))
    table = pa.table(
        {
            "contig": names.dictionary_decode(),
            "start": start[order],
            "end": end[order],
            "cell": pa.DictionaryArray.from_arrays(pa.array(cell[order]), pa.array(world.cells)).dictionary_decode(),
            "reads": np.ones(len(order), dtype=np.int64),
        }
    )
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as file:
        csv.write_csv(table, file, options)


def _place_fragments(world: AccessibleWorld, generator: np.random.Generator) -> tuple[Array, ...]:
    """(fragments,) cell, peak, start and end; both ends in the peak, but for one fragment of each odd entry."""
    cells, peaks = world.fragments.nonzero()
    number, is_odd = world.fragments.data, world.reads.data % 2 == 1
    cell, peak = np.repeat(cells, number), np.repeat(peaks, number)
    first, last = world.peaks.start.to_numpy()[peak], world.peaks.end.to_numpy()[peak]
    length = generator.integers(SHORTEST_FRAGMENT_BP, last - first, endpoint=True)
    start = first + generator.integers(0, last - first - length, endpoint=True)
    end = start + length
    is_out = np.zeros(len(cell), dtype=bool)
    is_out[np.cumsum(number)[is_odd] - 1] = True
    is_left = generator.random(len(cell)) < 0.5
    beyond = generator.integers(1, MARGIN_BP, size=len(cell))
    start = np.where(is_out & is_left, first - beyond, start)
    end = np.where(is_out & ~is_left, last + beyond, end)
    return cell, peak, start, end


_WRITERS: dict[str, Callable[[AccessibleWorld, Path, int], None]] = {
    "genome.fa": _write_genome,
    "cells.h5ad": _write_cells,
    "cells.tsv": _write_labels,
    "peaks.bed": _write_peaks,
    "fragments.tsv.gz": _write_fragments,
    "truth.tsv": _write_truth,
}
