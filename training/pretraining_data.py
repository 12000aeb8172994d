"""From the folder of cells and the file of DNA features to training and held-out sets over one vocabulary.

What is left out on the way (genes without DNA, cells without genes, cells of unknown donors) is counted in a report.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..data_scripts.gene_features import GeneFeatures, align_gene_features, read_gene_features
from .collators import NO_DONOR, DonorVariants
from .gene_vocabulary import GeneVocabulary, choose_genes, read_gene_list, read_gene_vocabulary
from .held_out_cells import HeldOutCells
from .masked_gene_data import MaskedGeneDataset, TokenisedCells, read_tokenised_cells
from .pretraining_arguments import DataArguments
from .streaming_cells import StreamedCells

logger = logging.getLogger(__name__)


@dataclass
class PretrainingData:
    """What a run trains on.

    Attributes:
        vocabulary: of the model, after what is left out.
        gene_features: by token id, or None for a model that reads no DNA.
        donor_variants: for the collator, or None without donors.
        training, held_out: the cells; `held_out` is None where nothing is held out. A stream is cut for this process.
        report: what was left out, and how many cells there are.
    """

    vocabulary: GeneVocabulary
    gene_features: GeneFeatures | None
    donor_variants: DonorVariants | None
    training: MaskedGeneDataset | StreamedCells
    held_out: MaskedGeneDataset | HeldOutCells | None
    report: dict[str, Any] = field(default_factory=dict)


def prepare_pretraining_data(
    arguments: DataArguments, *, reads_dna: bool, max_length: int, seed: int = 0
) -> PretrainingData:
    """Read cells and features, settle the vocabulary, and split.

    Args:
        arguments: files, donors and policies.
        reads_dna: whether the model has an adapter; without one no DNA features are read.
        max_length: longest cell in genes.
        seed: of the random split.

    Raises:
        FileNotFoundError, ValueError: for files and settings that do not fit; see the fields of `DataArguments`.
    """
    check_settings(arguments, reads_dna)
    assert arguments.cells is not None
    cells, vocabulary = read_tokenised_cells(arguments.cells), read_gene_vocabulary(arguments.cells)
    held_out_cells = _read_test_cells(arguments, vocabulary)
    features = read_gene_features(arguments.gene_features) if reads_dna and arguments.gene_features else None
    all_cells = [cells] if held_out_cells is None else [cells, held_out_cells]
    vocabulary, report = _settle_vocabulary(arguments, vocabulary, all_cells, features)
    report["cells_cut"] = sum(some.cut(max_length) for some in all_cells)
    if features is not None:
        features = align_gene_features(features, vocabulary.tokens, special_tokens=vocabulary.special_tokens)
    donor_variants = donor_variants_of(features) if arguments.donor_column else None
    usable = [_Usable.of(some, arguments, features, report) for some in all_cells]
    training, held_out = _split(arguments, usable, seed)
    report |= {"training_cells": len(training), "held_out_cells": len(held_out) if held_out else 0}
    logger.info("cells and genes: %s", report)
    return PretrainingData(vocabulary, features, donor_variants, training, held_out, report)


@dataclass
class _Usable:
    """Cells that can be trained on: `numbers` of them, and each cell's row in the features' donors."""

    cells: TokenisedCells
    numbers: npt.NDArray[np.int64]
    donors: npt.NDArray[np.int64] | None

    @classmethod
    def of(
        cls, cells: TokenisedCells, arguments: DataArguments, features: GeneFeatures | None, report: dict[str, Any]
    ) -> "_Usable":
        usable = cells.lengths > 0
        _add(report, "cells_without_genes", int((~usable).sum()))
        donors = None
        if arguments.donor_column and features is not None:
            donors, known = _donor_rows(cells, arguments, features, report)
            if arguments.missing_donors == "drop":
                usable &= known
        return cls(cells, np.flatnonzero(usable), donors)

    def dataset(self, numbers: npt.NDArray[np.int64], *, fixed_masks: bool) -> MaskedGeneDataset:
        return MaskedGeneDataset(self.cells, numbers, donors=self.donors, fixed_masks=fixed_masks)


def check_settings(arguments: DataArguments, reads_dna: bool) -> None:
    """Raise ValueError for settings that do not go together, before anything is read."""
    if arguments.cells is None:
        raise ValueError("cells is not set: give the folder of tokenised cells (--cells DIR)")
    if reads_dna and arguments.gene_features is None:
        raise ValueError(
            "gene_features is not set, and the model's adapter reads DNA: give the file that `embed` wrote "
            "(--gene-features F.safetensors), or train without DNA (--adapter-type none)"
        )
    if not reads_dna and arguments.gene_features is not None:
        logger.warning("adapter_type is none: the model reads no DNA, and %s is not used", arguments.gene_features)
    if not 0 <= arguments.test_fraction < 1:
        raise ValueError(
            f"test_fraction is {arguments.test_fraction}: the share of held-out cells is from 0 to below 1"
        )
    if arguments.packed and arguments.pad_to_multiple_of:
        raise ValueError("both packed and pad_to_multiple_of are set: packed batches have no padding")
    if arguments.token_budget and not arguments.packed:
        raise ValueError(
            f"token_budget is {arguments.token_budget:,} without packed: batches by tokens are packed ones, so set "
            "packed (--packed true)"
        )
    if arguments.test_cells and arguments.test_donors:
        raise ValueError("both test_cells and test_donors are set: hold out either other cells or some donors")
    if arguments.test_donors and not arguments.donor_column:
        raise ValueError("test_donors is set without donor_column, the column that names each cell's donor")


def _read_test_cells(arguments: DataArguments, vocabulary: GeneVocabulary) -> TokenisedCells | None:
    if arguments.test_cells is None:
        return None
    if read_gene_vocabulary(arguments.test_cells).tokens != vocabulary.tokens:
        raise ValueError(
            f"{arguments.test_cells} and {arguments.cells} have different token dictionaries: build both with one "
            "(--token-dictionary)"
        )
    return read_tokenised_cells(arguments.test_cells)


def _settle_vocabulary(
    arguments: DataArguments,
    vocabulary: GeneVocabulary,
    all_cells: Sequence[TokenisedCells],
    features: GeneFeatures | None,
) -> tuple[GeneVocabulary, dict[str, Any]]:
    kept, report = choose_genes(
        vocabulary,
        sum(cells.occurrences(len(vocabulary)) for cells in all_cells),  # type: ignore[arg-type]
        genes_with_features=None if features is None else features.gene_ids,
        restrict_to=read_gene_list(arguments.restrict_genes) if arguments.restrict_genes else None,
        missing=arguments.missing_gene_features,
    )
    if kept.all():
        return vocabulary, dict(report)
    vocabulary, new_ids = vocabulary.restricted(kept)
    for cells in all_cells:
        cells.renumber(new_ids)
    return vocabulary, dict(report)


def donor_variants_of(features: GeneFeatures | None) -> DonorVariants | None:
    """The donors' table for the collator; None for features without donors."""
    if features is None or features.donor_feature_index is None:
        return None
    assert features.donor_features is not None
    return DonorVariants(features.donor_feature_index, torch.from_numpy(features.donor_features))


def _donor_rows(
    cells: TokenisedCells, arguments: DataArguments, features: GeneFeatures, report: dict[str, Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(cells,) row of each cell's donor, -1 where unknown, and whether it is known."""
    assert arguments.donor_column is not None
    if features.donors is None:
        raise ValueError(
            f"{arguments.gene_features} has no donors, and donor_column is {arguments.donor_column!r}: embed the "
            "promoters with the donors' VCF, or train on the reference genome without donor_column"
        )
    names, codes = cells.categories(arguments.donor_column)
    row_of = {donor: row for row, donor in enumerate(features.donors)}
    rows = np.array([*(row_of.get(name, NO_DONOR) for name in names), NO_DONOR])[codes]  # the last entry is code -1
    unknown = sorted({name for name in names if name not in row_of})
    known = rows != NO_DONOR
    if not known.all() and arguments.missing_donors == "error":
        raise ValueError(
            f"{int((~known).sum()):,} cells have donors without DNA features ({', '.join(unknown[:5]) or 'no name'}"
            f"{f' and {len(unknown) - 5:,} more' if len(unknown) > 5 else ''}); the features' donors are e.g. "
            f"{', '.join(features.donors[:3])}. Embed them too, or set missing_donors to reference or drop"
        )
    _add(report, "cells_of_donors_without_dna_features", int((~known).sum()))
    return rows, known


def _split(
    arguments: DataArguments, usable: Sequence[_Usable], seed: int
) -> tuple[MaskedGeneDataset, MaskedGeneDataset | None]:
    cells = usable[0]
    if len(usable) == 2:
        return _datasets(cells, cells.numbers, usable[1], usable[1].numbers)
    if arguments.test_donors:
        held_out = np.isin(cells.numbers, _cells_of_test_donors(cells.cells, arguments))
    else:
        chosen = np.random.default_rng(seed).permutation(len(cells.numbers))
        held_out = np.zeros(len(chosen), dtype=bool)
        size = max(1, round(arguments.test_fraction * len(chosen))) if arguments.test_fraction else 0
        held_out[chosen[:size]] = True
    return _datasets(cells, cells.numbers[~held_out], cells, cells.numbers[held_out])


def _datasets(
    cells: _Usable, training: npt.NDArray[np.int64], test_cells: _Usable, held_out: npt.NDArray[np.int64]
) -> tuple[MaskedGeneDataset, MaskedGeneDataset | None]:
    if not len(training):
        raise ValueError(
            f"no cell is left to train on: {len(cells.cells):,} were read, {len(cells.numbers):,} of them have genes "
            f"and a known donor, and {len(held_out):,} are held out"
        )
    test = test_cells.dataset(held_out, fixed_masks=True) if len(held_out) else None
    return cells.dataset(training, fixed_masks=False), test


def _cells_of_test_donors(cells: TokenisedCells, arguments: DataArguments) -> npt.NDArray[np.int64]:
    assert arguments.test_donors is not None and arguments.donor_column is not None
    wanted = [name.strip() for name in arguments.test_donors.split(",")]
    names, codes = cells.categories(arguments.donor_column)
    absent = sorted(set(wanted) - set(names))
    if absent:
        raise ValueError(f"no cell is of the test donors {', '.join(absent)}; donors are e.g. {', '.join(names[:5])}")
    return np.flatnonzero(np.isin(codes, [names.index(name) for name in wanted]))


def _add(report: dict[str, Any], name: str, count: int) -> None:
    report[name] = report.get(name, 0) + count
    if count:
        logger.warning("%d %s", count, name.replace("_", " "))
