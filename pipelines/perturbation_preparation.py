"""From genes and edits as users name them to what the passes take: tokens, DNA features, sham edits at other genes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .perturbation_cells import RankedCells
from .perturbation_dna import EditedFeatures, GeneFeatureRow, edited_features
from .perturbation_edits import WITHOUT_DNA, Edit
from .perturbation_gene_sets import close_names
from .perturbation_request import described, require_distinct
from .perturbation_run import GeneEdit, Vocabulary

# A sham edit tells little of the genes in cells that lack its gene: only genes that this share of the cells have.
SMALLEST_SHAM_SHARE = 0.05


class EditPreparation:
    """Prepares edits for a model.

    Args:
        model: a Bio-DTA, or a BERT without DNA.
        tokenizer: its GeneRankTokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def vocabulary(self) -> Vocabulary:
        """What the passes must know of the tokens."""
        n_tokens = len(self._tokenizer)
        n_special = n_tokens - len(self._tokenizer.decode_genes(range(n_tokens)))  # the first ids
        return Vocabulary(n_tokens, n_special, self._tokenizer.pad_token_id, self._tokenizer.mask_token_id)

    def tokens(self) -> list[str]:
        """The token of each id."""
        return self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))

    def token_ids_of(self, genes: Sequence[str]) -> list[int]:
        """The token of each gene; ValueError where one is unknown, or two are the same."""
        token_ids = [self.token_of(gene) for gene in genes]
        require_distinct(genes, token_ids)
        return token_ids

    def token_of(self, gene: str) -> int:
        """The token of a gene id or symbol; ValueError where the vocabulary has none, or several of that symbol."""
        token_id = self._tokenizer.token_id_of_gene(gene)
        if token_id is not None:
            return token_id
        symbols = self._tokenizer.gene_symbols
        bearers = [known for known, symbol in symbols.items() if symbol == gene]
        if len(bearers) > 1:
            raise ValueError(
                f"{len(bearers)} genes have the symbol {gene}: {', '.join(bearers)}; give one of these ids"
            )
        close = close_names(gene, [*symbols.values(), *self._tokenizer.decode_genes(range(len(self._tokenizer)))])
        raise ValueError(
            f"the gene {gene!r} is not among the {len(self._tokenizer):,} tokens of the vocabulary"
            + ("" if symbols else ", and the tokenizer knows no symbols")
            + (f"; did you mean {' or '.join(close)}?" if close else "; give an Ensembl id or a symbol that is")
        )

    def gene_edits(
        self, requested: Sequence[tuple[str, Edit]], token_ids: Sequence[int], dna_model: Any
    ) -> tuple[list[GeneEdit], list[dict[str, Any]]]:
        """What the passes need of each edit, and its description."""
        tokens, edits, descriptions = self.tokens(), [], []
        for (_, edit), token_id in zip(requested, token_ids, strict=True):
            made = self._edited_features(edit, token_id, dna_model)
            features = None if made is None else made.features
            edits.append(GeneEdit(edit.kind, token_id, features, int(getattr(edit, "rank", 0))))
            descriptions.append(self._described(edit, made, token_id, tokens[token_id]))
        return edits, descriptions

    def _edited_features(self, edit: Edit, token_id: int, dna_model: Any) -> EditedFeatures | None:
        """What the edit makes of the gene's DNA features; None for edits of the token."""
        if edit.kind in WITHOUT_DNA:
            return None
        config = self._model.config
        if getattr(config, "adapter_type", "none") == "none":
            raise ValueError(
                f'the edit {edit.kind!r} changes DNA, and this model reads none (adapter_type="none"): use "delete", '
                '"delete-in-place", "mask", "overexpress" or SetRank, or a model with an adapter'
            )
        return edited_features(edit, self._feature_row(token_id), config.gene_features_metadata, dna_model)

    def _feature_row(self, token_id: int) -> GeneFeatureRow:
        table = self._model.base_model.gene_token_embeddings.table
        table.require_set()
        rows = (tensor.float().cpu().numpy() for tensor in (table.features[token_id], table.standard_deviation))
        return GeneFeatureRow(*rows)

    def sham_edits(
        self, cells: RankedCells, chosen: np.ndarray, edits: Sequence[GeneEdit], count: int, seed: int
    ) -> list[list[GeneEdit]]:
        """The same kinds of edit at other genes; of DNA features, the same change in standardised features."""
        if count == 0:
            return []
        n_cells = cells.cells_a_token(chosen, self._model.config.vocab_size)
        n_cells[: self.vocabulary().num_special_tokens] = 0
        n_cells[[edit.token_id for edit in edits]] = 0
        candidates = np.flatnonzero(n_cells >= max(1.0, SMALLEST_SHAM_SHARE * len(chosen)))
        if not 0 < count * len(edits) <= len(candidates):
            raise ValueError(
                f"sham_genes is {count}, and {len(candidates):,} other genes are expressed in "
                f"{SMALLEST_SHAM_SHARE:.0%} of the cells or more: give 0 (no sham edits) up to "
                f"{len(candidates) // len(edits):,}"
            )
        drawn = np.random.default_rng(seed).choice(candidates, size=count * len(edits), replace=False)
        tokens = np.sort(drawn)[:, None] if len(edits) == 1 else drawn.reshape(count, len(edits))
        return [
            [self._sham_edit(edit, token) for edit, token in zip(edits, row, strict=True)] for row in tokens.tolist()
        ]

    def _sham_edit(self, edit: GeneEdit, token_id: int) -> GeneEdit:
        if edit.features is None:
            return edit._replace(token_id=token_id)
        change = edit.features - self._feature_row(edit.token_id).features
        return edit._replace(token_id=token_id, features=self._feature_row(token_id).features + change)

    def _described(self, edit: Edit, made: EditedFeatures | None, token_id: int, gene_id: str) -> dict[str, Any]:
        if made is None:
            return described(edit, gene_id)
        row = self._feature_row(token_id)
        change = row.standardised_size(made.features - row.features)
        more = {"feature_change_in_standard_deviations": change, "mutations": made.mutations}
        return described(edit, gene_id) | more
