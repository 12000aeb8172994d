"""Pipeline: change one gene, by its DNA or its token, and see which genes' contextual embeddings move.

Source: Bio-DTA, "In silico mutagenesis": one pass with the reference and one with the edit, cosine similarity of each
gene's embedding from the penultimate layer, gene sets against the rest. Beyond the paper: both passes are one call of
the model, sums stay on the device, edits of the token as in Theodoris et al. 2023, and shifts can be set against those
under sham edits.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, Pipeline

from .perturbation_cells import RankedCells, read_cells
from .perturbation_dna import EditedFeatures, GeneFeatureRow, edited_features
from .perturbation_edits import WITHOUT_DNA, Edit, describe, parse_edit
from .perturbation_result import PerturbationResult
from .perturbation_run import GeneEdit, PerturbationRun, Vocabulary
from .perturbation_statistics import (
    Alternative,
    add_sham_columns,
    close_names,
    gene_set_table,
    gene_table,
    read_gene_sets,
)

logger = logging.getLogger(__name__)

TASK = "gene-embedding-perturbation"
DEFAULT_BATCH_SIZE = 16
# A sham edit tells little of the genes in cells that lack its gene: only genes that this share of the cells have.
SMALLEST_SHAM_SHARE = 0.05


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
        gene: str,
        edit: Any = "delete",
        layer: int = -1,
        batch_size: int | None = None,
        gene_sets: Any = None,
        alternative: Alternative = "greater",
        minimum_cells: int = 1,
        sham_genes: int = 0,
        seed: int = 0,
        dna_model: Any = None,
        gene_features: Any = None,
        donor_column: str = "donor",
        counts_layer: str | None = None,
        use_raw: bool = False,
        gene_id_column: str | None = None,
        progress: bool = False,
    ) -> PerturbationResult:
        """Perturb one gene in all cells that express it.

        Args:
            cells: an AnnData of raw counts, a path of a .h5ad or of a tokenised folder, or a `datasets.Dataset`.
            gene: Ensembl id or symbol.
            edit: "delete" (later genes move up), "mask" (ranks kept), "overexpress" (moved to the front), DNA features
                (dna_feature_size,), a DNA sequence, or an edit of `perturbation_edits` (or a mapping with its `kind`).
            layer: whose embeddings are compared, counted from the last: 0 the last, -1 the penultimate, and so on.
            batch_size: cells a model call (each once as reference and once edited); 16 where None.
            gene_sets: mapping of names to gene ids or symbols, or path(s) of .gmt files or lists of one gene a line.
            alternative: of the gene sets' test; "greater": the set shifts more than the other genes.
            minimum_cells: genes seen in fewer cells are counted and left out of the tables.
            sham_genes: the same kind of edit at this many other genes, drawn at random, gives each gene's usual shift
                and with it `shift_normalised` (see `add_sham_columns`); costs up to as many more passes.
            seed: of the draw of sham genes.
            dna_model: an EnformerForGeneFeatures, for edits of the sequence.
            gene_features: gene features with donors (`read_gene_features`); each cell then carries its donor's DNA.
            donor_column: the cells' column that names their donors.
            counts_layer: the AnnData's layer with raw counts; `X` where None.
            use_raw: take the AnnData's `raw`.
            gene_id_column: the AnnData's column of `var` with the gene ids; found by itself where None.
            progress: show a progress bar.

        Returns:
            PerturbationResult: `.genes`, `.sets`, `.summary`, `.report(path)`, `.save(folder)`.

        Raises:
            ValueError: on a gene that is not in the vocabulary or that no cell expresses, an edit that does not fit the
                model, a layer that it does not have, or cells that cannot be ranked.
        """
        # What is cheap to check comes before the cells are read.
        token_id, parsed, hidden_index = self._token_of(gene), parse_edit(edit), self._hidden_index(layer)
        cells_a_call = self._cells_a_call(batch_size)
        sets = read_gene_sets(gene_sets)
        made = self._edited_features(parsed, token_id, dna_model)
        ranked = self.preprocess(
            cells,
            counts_layer=counts_layer,
            use_raw=use_raw,
            gene_id_column=gene_id_column,
            donor_column=donor_column,
            gene_features=gene_features,
        )
        chosen = _cells_with_gene(ranked, token_id, gene)
        if self.model.dtype != torch.float32:
            logger.warning("the model is in %s: shifts of small edits drown in its rounding", self.model.dtype)
        change = GeneEdit(parsed.kind, token_id, None if made is None else made.features)
        shams = self._sham_edits(ranked, chosen, change, sham_genes, seed)
        run = PerturbationRun(
            partial(self._forward, hidden_index=hidden_index),
            ranked,
            self._vocabulary(),
            self.device,
            progress=progress,
        )
        with self.device_placement():
            moments, sham_moments = run.measure(chosen, change, shams, cells_a_call)
        tokens, symbols = self._tokens(), self.tokenizer.gene_symbols
        table = gene_table(moments, tokens, symbols, edited_token=token_id, minimum_cells=minimum_cells)
        genes = add_sham_columns(table.genes, sham_moments) if shams else table.genes
        summary = {
            "gene_id": tokens[token_id],
            "symbol": symbols.get(tokens[token_id], ""),
            "edit": self._described(parsed, made, token_id),
            **_cell_counts(ranked, chosen),
            "n_genes": len(genes),
            "n_genes_in_fewer_cells_than_minimum": table.n_left_out,
            "minimum_cells": minimum_cells,
            "edited_gene": table.edited_gene,
            "layer": layer,
            "hidden_states_index": hidden_index,
            "alternative": alternative,
            "sham_genes": [tokens[sham.token_id] for sham in shams],
            "seed": seed,
            "model": self.model.name_or_path,
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }
        sets_table = gene_set_table(genes, sets, self.tokenizer, alternative=alternative)
        members = {name: self._gene_ids_of(names) for name, names in sets.items()}
        return PerturbationResult(genes.drop(columns="token_id"), sets_table, summary, members)

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

    def _vocabulary(self) -> Vocabulary:
        n_tokens = len(self.tokenizer)
        n_special = n_tokens - len(self.tokenizer.decode_genes(range(n_tokens)))  # the first ids
        return Vocabulary(n_tokens, n_special, self.tokenizer.pad_token_id, self.tokenizer.mask_token_id)

    def _tokens(self) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))

    def _gene_ids_of(self, names: list[str]) -> list[str]:
        tokens = [self.tokenizer.token_id_of_gene(name) for name in names]
        return self.tokenizer.decode_genes(token for token in dict.fromkeys(tokens) if token is not None)

    def _token_of(self, gene: str) -> int:
        token_id = self.tokenizer.token_id_of_gene(gene)
        if token_id is not None:
            return token_id
        symbols = self.tokenizer.gene_symbols
        bearers = [known for known, symbol in symbols.items() if symbol == gene]
        if len(bearers) > 1:
            raise ValueError(
                f"{len(bearers)} genes have the symbol {gene}: {', '.join(bearers)}; give one of these ids"
            )
        close = close_names(gene, [*symbols.values(), *self.tokenizer.decode_genes(range(len(self.tokenizer)))])
        raise ValueError(
            f"the gene {gene!r} is not among the {len(self.tokenizer):,} tokens of the vocabulary"
            + ("" if symbols else ", and the tokenizer knows no symbols")
            + (f"; did you mean {' or '.join(close)}?" if close else "; give an Ensembl id or a symbol that is")
        )

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

    def _edited_features(self, edit: Edit, token_id: int, dna_model: Any) -> EditedFeatures | None:
        """What the edit makes of the gene's DNA features; None for edits of the token."""
        if edit.kind in WITHOUT_DNA:
            return None
        config = self.model.config
        if getattr(config, "adapter_type", "none") == "none":
            raise ValueError(
                f'the edit {edit.kind!r} changes DNA, and this model reads none (adapter_type="none"): use "delete", '
                '"mask" or "overexpress", or a model with an adapter'
            )
        return edited_features(edit, self._feature_row(token_id), config.gene_features_metadata, dna_model)

    def _feature_row(self, token_id: int) -> GeneFeatureRow:
        table = self.model.base_model.gene_token_embeddings.table
        table.require_set()
        rows = (tensor.float().cpu().numpy() for tensor in (table.features[token_id], table.standard_deviation))
        return GeneFeatureRow(*rows)

    def _sham_edits(
        self, cells: RankedCells, chosen: np.ndarray, edit: GeneEdit, count: int, seed: int
    ) -> list[GeneEdit]:
        """The same kind of edit at other genes; of DNA features, the same change in standardised features."""
        if count == 0:
            return []
        n_cells = cells.cells_a_token(chosen, self.model.config.vocab_size)
        n_cells[: self._vocabulary().num_special_tokens] = 0
        n_cells[edit.token_id] = 0
        candidates = np.flatnonzero(n_cells >= max(1.0, SMALLEST_SHAM_SHARE * len(chosen)))
        if not 0 < count <= len(candidates):
            raise ValueError(
                f"sham_genes is {count}, and {len(candidates):,} other genes are expressed in "
                f"{SMALLEST_SHAM_SHARE:.0%} of the cells or more: give 0 (no sham edits) up to that number"
            )
        tokens = np.sort(np.random.default_rng(seed).choice(candidates, size=count, replace=False)).tolist()
        if edit.features is None:
            return [GeneEdit(edit.kind, token) for token in tokens]
        change = edit.features - self._feature_row(edit.token_id).features
        return [GeneEdit(edit.kind, token, self._feature_row(token).features + change) for token in tokens]

    def _described(self, edit: Edit, made: EditedFeatures | None, token_id: int) -> dict[str, Any]:
        if made is None:
            return describe(edit)
        row = self._feature_row(token_id)
        change = row.standardised_size(made.features - row.features)
        return describe(edit) | {"feature_change_in_standard_deviations": change, "mutations": made.mutations}


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


def _cells_with_gene(cells: RankedCells, token_id: int, gene: str) -> np.ndarray:
    chosen = cells.cells_with(token_id)
    if len(chosen) == 0:
        raise ValueError(
            f"none of the {len(cells):,} cells expresses {gene} (among the genes that the model takes): give cells "
            "that do, e.g. another cell type"
        )
    times = int(np.count_nonzero(cells.tokens == token_id))
    if times > len(chosen):
        raise ValueError(f"{gene} is {times:,} times in {len(chosen):,} cells: a cell must have each gene once")
    if len(chosen) < len(cells):
        logger.info("%d of %d cells lack %s and are left out", len(cells) - len(chosen), len(cells), gene)
    return chosen


def _cell_counts(cells: RankedCells, chosen: np.ndarray) -> dict[str, int]:
    return {
        "n_cells": len(cells),
        "n_cells_with_gene": len(chosen),
        "n_cells_without_gene": len(cells) - len(chosen),
        "n_cells_without_any_gene": int((cells.lengths == 0).sum()),
    }


# What `save_pretrained` writes into the configuration, also where the task was never registered.
GeneEmbeddingPerturbationPipeline._registered_impl = {
    TASK: {"impl": GeneEmbeddingPerturbationPipeline, "pt": (AutoModelForMaskedLM,)}
}
