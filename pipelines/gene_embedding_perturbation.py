"""Pipeline: change one gene, by its DNA or its token, and see which genes' contextual embeddings move.

Source: Bio-DTA, "In silico mutagenesis": one pass with the reference and one with the edit, cosine similarity of each
gene's embedding from the penultimate layer, gene sets against the rest. Beyond the paper: both passes are one call of
the model, sums stay on the device, edits of the token as in Theodoris et al. 2023, and shifts can be set against those
under sham edits.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, Pipeline

from .perturbation_cell_shift import CellShifts, Goal, cell_table
from .perturbation_cells import RankedCells, read_cells
from .perturbation_gene_sets import read_gene_sets, require_known_genes
from .perturbation_goal import GoalState, goal_groups, goal_statistics, parse_goal
from .perturbation_preparation import EditPreparation
from .perturbation_request import ChosenCells, choose_cells, describe_edits, requested_edits
from .perturbation_result import PerturbationResult
from .perturbation_run import PerturbationRun
from .perturbation_statistics import Alternative
from .perturbation_tables import TableOptions, make_tables

logger = logging.getLogger(__name__)

TASK = "gene-embedding-perturbation"
DEFAULT_BATCH_SIZE = 16


class GeneEmbeddingPerturbationPipeline(Pipeline):
    """`pipeline("gene-embedding-perturbation", model=folder)(cells, gene="GATA4", edit="delete").genes`."""

    # transformers declares these as None, and its tokenizer without what ours can do.
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = True
    _registered_impl: dict[str, Any]
    model: Any
    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.eval()
        _require_fitting_tokenizer(self.tokenizer, self.model.config)

    def __call__(  # type: ignore[override]
        self,
        cells: Any,
        *,
        gene: Any,
        edit: Any = "delete",
        layer: int = -1,
        batch_size: int | None = None,
        require_all: bool = True,
        gene_sets: Any = None,
        alternative: Alternative = "greater",
        minimum_cells: int = 1,
        level: float = 0.95,
        bootstraps: int = 1000,
        matched_draws: int = 1000,
        mixture: bool = False,
        sham_genes: int = 0,
        sham_edits: Sequence[tuple[str, Any]] = (),
        noise_cells: int = 16,
        goal: Any = None,
        seed: int = 0,
        dna_model: Any = None,
        gene_features: Any = None,
        donor_column: str = "donor",
        counts_layer: str | None = None,
        use_raw: bool = False,
        gene_id_column: str | None = None,
        progress: bool = False,
    ) -> PerturbationResult:
        """Perturb one gene, or several at once, in all cells that express them.

        Args:
            cells: an AnnData of raw counts, a path of a .h5ad or of a tokenised folder, a `datasets.Dataset`, or cells
                that `preprocess` has ranked.
            gene: Ensembl id or symbol; a list of them, which all get `edit`; or a list of pairs (gene, edit). Several
                edits are made one after the other, in that order: of two genes moved to the front, the last is first.
            edit: "delete" (later genes move up), "delete-in-place" (positions kept), "mask" (ranks kept), "overexpress"
                (moved to the front), `SetRank(rank)`, DNA features (dna_feature_size,), a DNA sequence, or an edit of
                `perturbation_edits` (or a mapping with its `kind`).
            layer: whose embeddings are compared, counted from the last: 0 the last, -1 the penultimate, and so on.
            batch_size: cells a model call (each once as reference and once edited); 16 where None.
            require_all: of several genes: leave out cells that lack any; else edit those genes that a cell has.
            gene_sets: mapping of names to gene ids or symbols, or path(s) of .gmt files or lists of one gene a line.
            alternative: of the gene sets' test; "greater": the set shifts more than the other genes.
            minimum_cells: genes seen in fewer cells are counted and left out of the tables.
            level: of all intervals.
            bootstraps, matched_draws: of gene sets, see `add_set_effects`; 0 leaves them out.
            mixture: tell genes that moved from those that did not, see `fit_mixture`.
            sham_genes: the same kind of edit at this many other genes, drawn at random, gives each gene's usual shift
                and with it `shift_normalised` (see `add_sham_columns`); costs up to as many more passes. Of DNA, each
                gets the change of features that the edit makes.
            sham_edits: pairs (gene, edit) that are sham edits too, e.g. as many mutations elsewhere.
            noise_cells: so many cells, drawn at random, go through the model twice without any edit and give
                `noise_floor`; 0 leaves it out.
            goal: `GoalState` or a mapping of its fields: does the edit move cells of one group towards another?
            seed: of every draw.
            dna_model: an EnformerForGeneFeatures, for edits of the sequence.
            gene_features: gene features with donors (`read_gene_features`); each cell then carries its donor's DNA.
            donor_column: the cells' column that names their donors.
            counts_layer: the AnnData's layer with raw counts; `X` where None.
            use_raw: take the AnnData's `raw`.
            gene_id_column: the AnnData's column of `var` with the gene ids; found by itself where None.
            progress: show a progress bar.

        Returns:
            PerturbationResult: `.genes`, `.sets`, `.cells`, `.summary`, `.report(path)`, `.save(folder)`.

        Raises:
            ValueError: on a gene that is not in the vocabulary, is given twice or that no cell expresses, an edit that
                does not fit the model or the cells, a layer that it does not have, gene sets of which it knows no gene,
                groups of a goal that are empty or share cells, or cells that cannot be ranked.
        """
        started = time.perf_counter()
        # What is cheap to check comes before the cells are read.
        requested, wanted = requested_edits(gene, edit), parse_goal(goal)
        prepare = EditPreparation(self.model, self.tokenizer)
        names = [name for name, _ in requested]
        token_ids = prepare.token_ids_of(names)
        hidden_index, cells_a_call = self._hidden_index(layer), self._cells_a_call(batch_size)
        if noise_cells < 0:
            raise ValueError(f"noise_cells is {noise_cells}: give a number of cells, or 0 to leave the noise floor out")
        options = TableOptions(alternative, minimum_cells, level, bootstraps, matched_draws, mixture, seed)
        sets = read_gene_sets(gene_sets)
        require_known_genes(sets, self.tokenizer)
        edits, descriptions = prepare.gene_edits(requested, token_ids, dna_model)
        given_shams = [(name, one) for pair in sham_edits for name, one in requested_edits([pair])]
        given, _ = prepare.gene_edits(given_shams, [prepare.token_of(name) for name, _ in given_shams], dna_model)
        ranked = self.preprocess(
            cells,
            counts_layer=counts_layer,
            use_raw=use_raw,
            gene_id_column=gene_id_column,
            donor_column=donor_column,
            gene_features=gene_features,
            label_column=None if wanted is None else wanted.column,
        )
        chosen = choose_cells(
            ranked,
            edits,
            names,
            require_all=require_all,
            num_special_tokens=prepare.vocabulary().num_special_tokens,
            sham_edits=given,
        )
        if self.model.dtype != torch.float32:
            logger.warning("the model is in %s: shifts of small edits drown in its rounding", self.model.dtype)
        shams = [*prepare.sham_edits(ranked, chosen.cells, edits, sham_genes, seed), *([one] for one in given)]
        groups = None if wanted is None else _goal_groups(wanted, ranked, chosen)
        encode = partial(self._forward, hidden_index=hidden_index)
        run = PerturbationRun(encode, ranked, prepare.vocabulary(), self.device, progress=progress)
        passes_started = time.perf_counter()
        with self.device_placement():
            noise = run.measure_noise(
                _sample(chosen.cells, noise_cells, seed), cells_a_call, self.model.config.max_position_embeddings
            )
            towards = None if groups is None else _goal(run, *groups, cells_a_call)
            direction = None if towards is None else towards.direction
            of_cells, of_shams = CellShifts(direction), [CellShifts(direction) for _ in shams if towards is not None]
            moments, sham_moments = run.measure(
                chosen.cells,
                edits,
                shams,
                cells_a_call,
                cell_shifts=of_cells,
                sham_cell_shifts=of_shams,
                need_all=require_all,
            )
        passes_ended = time.perf_counter()
        tokens, symbols = prepare.tokens(), self.tokenizer.gene_symbols
        n_special = prepare.vocabulary().num_special_tokens
        tables = make_tables(
            moments,
            sham_moments,
            noise,
            ranked.mean_ranks(chosen.cells, len(tokens), n_special),
            self.tokenizer,
            sets,
            edited_tokens=token_ids,
            n_cells=len(chosen.cells),
            options=options,
        )
        shifts = of_cells.result()
        n_genes = ranked.genes_a_cell(n_special)
        table = cell_table(shifts, n_genes, ranked.names, noise_floor=noise.of_cells(), goal=towards)
        model_seconds = run.model_seconds()
        edited = [tokens[token_id] for token_id in token_ids]
        summary = {
            "gene_id": "+".join(edited),
            "symbol": _joined_symbols(edited, symbols),
            "edit": describe_edits(descriptions),
            **_cell_counts(ranked, chosen),
            "n_genes": len(tables.genes),
            "n_genes_in_fewer_cells_than_minimum": tables.n_left_out,
            "minimum_cells": minimum_cells,
            "require_all": require_all,
            "edited_gene": tables.edited_gene,
            "edited_genes": tables.edited_genes,
            "layer": layer,
            "hidden_states_index": hidden_index,
            "alternative": alternative,
            "level": level,
            "sham_genes": ["+".join(tokens[one.token_id] for one in sham) for sham in shams],
            "noise": noise.summary() | {"n_genes_above": tables.n_above_noise},
            "cell_shift_mean": float(table["shift"].mean()),
            "cell_shift_without_edited_mean": float(table["shift_without_edited"].mean()),
            **({} if tables.mixture is None else {"mixture": tables.mixture}),
            **({} if towards is None else {"goal": _goal_summary(table, of_shams, towards, seed)}),
            "seed": seed,
            "model": self.model.name_or_path,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "seconds": {
                "reading": passes_started - started,
                "model": model_seconds,
                "other": passes_ended - passes_started - model_seconds,
                "statistics": time.perf_counter() - passes_ended,
            },
        }
        members = {name: self._gene_ids_of(names) for name, names in sets.items()}
        return PerturbationResult(tables.genes.drop(columns="token_id"), tables.sets, summary, members, table)

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model, tokenizer and this pipeline's code, so that the folder works without the package."""
        super().save_pretrained(save_directory, **options)
        self.model.config.__dict__.pop("custom_pipelines", None)  # the code lies in that folder only

    def preprocess(self, input_: Any, **options: Any) -> RankedCells:  # type: ignore[override]
        """Cells to rank tokens, cut to what the model takes; options as `read_cells`."""
        return read_cells(input_, self.tokenizer, max_length=self.model.config.max_position_embeddings, **options)

    def _forward(self, input_tensors: dict[str, torch.Tensor], hidden_index: int) -> torch.Tensor:  # type: ignore[override]
        """One call of the encoder -> (cells, genes, hidden) of one layer; logits are not made."""
        return self.model.base_model(**input_tensors, output_hidden_states=True).hidden_states[hidden_index]

    def postprocess(self, model_outputs: Any, **options: Any) -> Any:  # noqa: ARG002
        """Transformers asks for this hook; tables are made by the call."""
        return model_outputs

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if parameters:
            raise ValueError(f"unknown options of the pipeline: {', '.join(parameters)}; give options with each call")
        return {}, {}, {}

    def _gene_ids_of(self, names: list[str]) -> list[str]:
        tokens = [self.tokenizer.token_id_of_gene(name) for name in names]
        return self.tokenizer.decode_genes(token for token in dict.fromkeys(tokens) if token is not None)

    def _hidden_index(self, layer: int) -> int:
        n_layers = self.model.config.num_hidden_layers
        if not -n_layers < layer <= 0:
            raise ValueError(
                f"layer {layer} is none of the model's {n_layers}: give 0 for the last, -1 for the penultimate, down "
                f"to {1 - n_layers} for the first"
            )
        return n_layers + layer

    def _cells_a_call(self, batch_size: int | None) -> int:
        chosen = batch_size if batch_size is not None else self._batch_size
        if chosen is not None and chosen < 1:
            raise ValueError(f"batch_size is {chosen}: give 1 or more cells a call, or None for {DEFAULT_BATCH_SIZE}")
        return chosen or DEFAULT_BATCH_SIZE


def _require_fitting_tokenizer(tokenizer: Any, config: Any) -> None:
    if tokenizer is None or not hasattr(tokenizer, "token_id_of_gene"):
        raise ValueError(
            f"the pipeline needs a GeneRankTokenizer, and has {type(tokenizer).__name__}: save the tokenizer beside "
            "the model, or give tokenizer=GeneRankTokenizer.from_pretrained(...)"
        )
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model's vocabulary {config.vocab_size:,}: load both "
            "from the same folder"
        )
    gene_ids = getattr(config, "gene_ids", None)
    if gene_ids is None:
        return
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    differing = [number for number, pair in enumerate(zip(tokens, gene_ids, strict=True)) if pair[0] != pair[1]]
    if differing:
        first = differing[0]
        raise ValueError(
            f"{len(differing):,} tokens of the tokenizer are not the model's, e.g. id {first} is {tokens[first]} in "
            f"the tokenizer and {gene_ids[first]} in the model: load both from the same folder"
        )


def _joined_symbols(gene_ids: Sequence[str], symbols: dict[str, str]) -> str:
    if len(gene_ids) == 1:
        return symbols.get(gene_ids[0], "")
    return "+".join(symbols.get(gene, "") or gene for gene in gene_ids)


def _sample(cells: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng([seed, 1]).choice(cells, size=min(count, len(cells)), replace=False))


def _cell_counts(cells: RankedCells, chosen: ChosenCells) -> dict[str, Any]:
    return {
        "n_cells": len(cells),
        "n_cells_with_gene": len(chosen.cells),
        "n_cells_without_gene": len(cells) - len(chosen.cells) - chosen.n_too_short,
        "n_cells_with_each_gene": chosen.n_with_each,
        "n_cells_without_the_rank": chosen.n_too_short,
        "n_cells_without_any_gene": int((cells.lengths == 0).sum()),
    }


def _goal_groups(wanted: GoalState, cells: RankedCells, chosen: ChosenCells) -> tuple[np.ndarray, np.ndarray]:
    in_start, in_goal = goal_groups(wanted, cells.labels, len(cells))
    for name, group in (("start", in_start), ("goal", in_goal)):
        if not (cells.lengths[group] > 0).any():
            raise ValueError(f"none of the {group.sum():,} cells of the {name} has a gene of the vocabulary")
    if not in_start[chosen.cells].any():
        raise ValueError(
            f"none of the {in_start.sum():,} cells of the goal's start expresses what is to be edited: give other cells"
        )
    return in_start, in_goal


def _goal(run: PerturbationRun, in_start: np.ndarray, in_goal: np.ndarray, cells_a_call: int) -> Goal:
    start, goal = (run.mean_embedding(np.flatnonzero(group), cells_a_call) for group in (in_start, in_goal))
    if not float((goal - start).norm()) > 0:
        raise ValueError("the goal's two groups have the same mean embedding, so no direction leads from one to other")
    return Goal(goal - start, in_start, in_goal)


def _goal_summary(cells: Any, shams: Sequence[CellShifts], goal: Goal, seed: int) -> dict[str, Any]:
    found = []
    for sham in shams:
        arrays = sham.result()
        moves = arrays.projections[goal.in_start[arrays.cells], 1]
        found.append(np.nanmean(moves) if np.isfinite(moves).any() else np.nan)
    return goal_statistics(
        cells,
        np.array(found, dtype=float),
        distance=float(goal.direction.norm()),
        n_in_start=int(goal.in_start.sum()),
        n_in_goal=int(goal.in_goal.sum()),
        seed=seed,
    )


# What `save_pretrained` writes into the configuration, also where the task was never registered.
GeneEmbeddingPerturbationPipeline._registered_impl = {
    TASK: {"impl": GeneEmbeddingPerturbationPipeline, "pt": (AutoModelForMaskedLM,)}
}
