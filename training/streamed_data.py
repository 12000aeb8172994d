"""From sharded Parquet and the file of DNA features to a stream of training cells and held-out cells in memory.

As `pretraining_data` does for cells that are mapped whole, with two differences, since no shard is read beforehand: all
genes of the token dictionary count as expressed, and held-out cells are told by a hash of their numbers.
"""

import logging
from typing import Any

import numpy as np
from transformers import TrainingArguments

from ..data_scripts.gene_features import GeneFeatures, align_gene_features, read_gene_features
from .gene_vocabulary import GeneVocabulary, choose_genes, read_gene_list
from .held_out_cells import HeldOutCells, read_cells
from .pretraining_arguments import DataArguments
from .pretraining_data import PretrainingData, check_settings, donor_variants_of
from .shard_files import ShardFiles, open_shards
from .streamed_rows import CellPreparation
from .streamed_vocabulary import read_streamed_vocabulary
from .streaming_cells import StreamedCells
from .streaming_order import HeldOutShare

logger = logging.getLogger(__name__)

MOST_SAMPLED_CELLS = 20_000  # of the training cells, for gene frequencies


def prepare_streamed_data(
    arguments: DataArguments, training_arguments: TrainingArguments, *, reads_dna: bool, max_length: int
) -> PretrainingData:
    """Open shards, read features, settle the vocabulary, and cut the stream for this process.

    Args:
        arguments: files, donors and policies.
        training_arguments: process, number of processes, workers, batch size and seed.
        reads_dna: whether the model has an adapter; without one no DNA features are read.
        max_length: longest cell in genes.

    Raises:
        FileNotFoundError, ValueError: for files and settings that do not fit; see the fields of `DataArguments`.
    """
    check_settings(arguments, reads_dna)
    _check_stream_settings(arguments, training_arguments)
    assert arguments.cells is not None
    dictionary = read_streamed_vocabulary(arguments.cells)
    shards = open_shards(
        arguments.cells,
        vocabulary_size=len(dictionary),
        columns=[arguments.donor_column] if arguments.donor_column else [],
        skip_corrupt_shards=arguments.skip_corrupt_shards,
    )
    features = read_gene_features(arguments.gene_features) if reads_dna and arguments.gene_features else None
    vocabulary, new_ids, report = _settle_vocabulary(arguments, dictionary, features)
    if features is not None:
        features = align_gene_features(features, vocabulary.tokens, special_tokens=vocabulary.special_tokens)
    preparation = CellPreparation(
        len(dictionary),
        new_ids=new_ids,
        max_length=max_length,
        donor_column=arguments.donor_column,
        donor_rows=_donor_rows(arguments, features),
        missing_donors=arguments.missing_donors,
    )
    share = HeldOutShare(arguments.test_fraction, seed=training_arguments.seed)
    training = StreamedCells(
        shards,
        preparation,
        batch_size=None if arguments.token_budget else training_arguments.train_batch_size,
        token_budget=arguments.token_budget,
        groups_by_length=not arguments.packed,
        buffer_cells=arguments.buffer_cells,
        rank=training_arguments.process_index,
        world_size=training_arguments.world_size,
        workers=max(1, training_arguments.dataloader_num_workers),
        seed=training_arguments.seed if training_arguments.data_seed is None else training_arguments.data_seed,
        held_out=share,
        skip_corrupt_shards=arguments.skip_corrupt_shards,
    )
    held_out = _read(shards, preparation, share, arguments, is_held_out=True)
    report |= {"cells": shards.cells, "training_cells": training.order.cells}
    report["held_out_cells"] = 0 if held_out is None else len(held_out)
    logger.info("cells and genes: %s", report)
    donor_variants = donor_variants_of(features) if arguments.donor_column else None
    return PretrainingData(vocabulary, features, donor_variants, training, held_out, report)


def sampled_training_cells(data: PretrainingData, arguments: DataArguments) -> HeldOutCells:
    """Some of the cells that a stream trains on, in memory, to count genes in."""
    stream = data.training
    assert isinstance(stream, StreamedCells) and stream.held_out is not None
    sample = _read(stream.shards, stream.preparation, stream.held_out, arguments, is_held_out=False)
    assert sample is not None
    return sample


def _read(
    shards: ShardFiles,
    preparation: CellPreparation,
    share: HeldOutShare,
    arguments: DataArguments,
    *,
    is_held_out: bool,
) -> HeldOutCells | None:
    return read_cells(
        shards,
        preparation,
        share,
        is_held_out=is_held_out,
        maximum_cells=arguments.maximum_held_out_cells if is_held_out else MOST_SAMPLED_CELLS,
        skip_corrupt_shards=arguments.skip_corrupt_shards,
    )


def _check_stream_settings(arguments: DataArguments, training_arguments: TrainingArguments) -> None:
    if training_arguments.max_steps <= 0:
        raise ValueError(
            "streaming is on and max_steps is not set: a stream has no end, so say when training stops (--max-steps N)"
        )
    if arguments.test_cells or arguments.test_donors:
        raise ValueError(
            "streaming holds out a share of the cells by a hash of their numbers: set test_fraction in place of "
            "test_cells or test_donors"
        )


def _settle_vocabulary(
    arguments: DataArguments, dictionary: GeneVocabulary, features: GeneFeatures | None
) -> tuple[GeneVocabulary, Any, dict[str, Any]]:
    """The vocabulary, (dictionary,) each token's new id or None where all stay, and what was left out."""
    kept, report = choose_genes(
        dictionary,
        np.ones(len(dictionary), dtype=np.int64),
        genes_with_features=None if features is None else features.gene_ids,
        restrict_to=read_gene_list(arguments.restrict_genes) if arguments.restrict_genes else None,
        missing=arguments.missing_gene_features,
    )
    if kept.all():
        return dictionary, None, dict(report)
    return *dictionary.restricted(kept), dict(report)


def _donor_rows(arguments: DataArguments, features: GeneFeatures | None) -> dict[str, int] | None:
    if arguments.donor_column is None or features is None:
        return None
    if features.donors is None:
        raise ValueError(
            f"{arguments.gene_features} has no donors, and donor_column is {arguments.donor_column!r}: embed the "
            "promoters with the donors' VCF, or train on the reference genome without donor_column"
        )
    return {donor: row for row, donor in enumerate(features.donors)}
