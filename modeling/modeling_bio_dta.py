"""Bio-DTA: a single-cell BERT whose gene tokens come from DNA through an adapter (dynamic token adaptation).

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "Model architecture and
training". The encoder and the head are transformers' own BERT layers under their own names, so that the weights of the
adapter-free model are those of `BertForMaskedLM`. Beyond the paper: features are standardised by statistics kept with
them, a variant may enter as its difference to the reference, cells may come packed in one row without padding, and
logits are computed at the masked positions only, or never as a whole.
Shapes: B cells, G tokens a cell, H hidden, V vocabulary, F features a gene, D distinct tokens, N variants, M masked
    tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertEncoder,
    BertLMPredictionHead,
    BertOnlyMLMHead,
    BertPreTrainedModel,
)
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .chunked_cross_entropy import chunked_linear_cross_entropy
from .configuration_bio_dta import BioDTAConfig
from .gene_feature_table import GeneFeatureTable
from .packed_attention import packed_mask, ranks_within_cells, require_packed, take_packed_cells

IGNORED_LABEL = -100  # transformers' own


@dataclass
class BioDTAMaskedLMOutput(ModelOutput):
    """What `BioDTAForMaskedLM` returns.

    Attributes:
        loss: mean cross-entropy over the masked tokens, scalar; only with labels.
        logits: (cells, genes, vocabulary) without labels; (masked tokens, vocabulary) with them; None with labels and
            `return_logits=False`.
        logits_indices: (masked tokens,) int64, each row's place in the flattened (cells x genes); only with labels.
        hidden_states: embeddings and each layer's output, (cells, genes, hidden) each.
        attentions: (cells, heads, genes, genes) a layer.

    Of packed cells, `cells` is 1 and `genes` the tokens of all of them.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    logits_indices: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class GeneAdapter(nn.Module):
    """DNA features to token embeddings, the same map for all genes: (rows, features) -> (rows, hidden)."""

    def __init__(self, config: BioDTAConfig) -> None:
        super().__init__()
        if config.adapter_type == "linear":
            self.projection: nn.Module = nn.Linear(config.dna_feature_size, config.hidden_size)
        else:
            middle = config.adapter_hidden_size or config.hidden_size
            self.projection = nn.Sequential(
                nn.Linear(config.dna_feature_size, middle), nn.GELU(), nn.Linear(middle, config.hidden_size)
            )

    def forward(self, standardized_features: torch.Tensor) -> torch.Tensor:
        dtype = next(self.projection.parameters()).dtype
        return F.softplus(self.projection(standardized_features.to(dtype)))


class GeneTokenEmbeddings(nn.Module):
    """Gene tokens from DNA: the adapter runs once over the distinct tokens of the batch, and the result is gathered."""

    def __init__(self, config: BioDTAConfig) -> None:
        super().__init__()
        self.num_special_tokens = config.num_special_tokens
        self.table = GeneFeatureTable(config)
        self.adapter = GeneAdapter(config)
        self.difference_adapter = (
            nn.Linear(config.dna_feature_size, config.hidden_size, bias=False)
            if config.variant_encoding == "difference"
            else None
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        special_embeddings: nn.Embedding,
        variant_features: torch.Tensor | None = None,
        variant_ids: torch.Tensor | None = None,
        distinct_token_ids: torch.Tensor | None = None,
        token_places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, G) token ids -> (B, G, H); see `BioDTAModel.forward` for the variants and the distinct tokens."""
        self.table.require_set()
        distinct, place = _distinct_tokens(input_ids, distinct_token_ids, token_places)  # (D,), (B, G)
        vectors = self.adapter(self.table.standardized(self.table.features[distinct]))  # (D, H)
        is_special = (distinct < self.num_special_tokens).unsqueeze(1)
        special = special_embeddings(distinct.clamp(max=self.num_special_tokens - 1))
        embeddings = F.embedding(place, torch.where(is_special, special.to(vectors.dtype), vectors))  # (B, G, H)
        if variant_ids is None:
            return embeddings
        return self._with_variants(embeddings, input_ids, variant_features, variant_ids)

    def _with_variants(
        self,
        embeddings: torch.Tensor,
        input_ids: torch.Tensor,
        variant_features: torch.Tensor | None,
        variant_ids: torch.Tensor,
    ) -> torch.Tensor:
        features = self._checked_variants(input_ids, variant_features, variant_ids)
        # A masked gene keeps the mask's own embedding: its DNA must not tell which gene it is.
        differs = (variant_ids >= 0) & (input_ids >= self.num_special_tokens)  # (B, G)
        pairs = input_ids[differs] * len(features) + variant_ids[differs]
        distinct_pairs, place = torch.unique(pairs, return_inverse=True)
        token_ids, variants = distinct_pairs // len(features), features[distinct_pairs % len(features)]
        vectors = self._variant_vectors(token_ids, variants).to(embeddings.dtype)
        return embeddings.index_put((differs,), F.embedding(place, vectors))

    def _variant_vectors(self, token_ids: torch.Tensor, variant_features: torch.Tensor) -> torch.Tensor:
        if self.difference_adapter is None:
            return self.adapter(self.table.standardized(variant_features))
        reference = self.adapter(self.table.standardized(self.table.features[token_ids]))
        difference = self.table.standardized_difference(variant_features, token_ids)
        return reference + self.difference_adapter(difference.to(self.difference_adapter.weight.dtype))

    def _checked_variants(
        self, input_ids: torch.Tensor, variant_features: torch.Tensor | None, variant_ids: torch.Tensor
    ) -> torch.Tensor:
        size = self.table.features.shape[1]
        if variant_features is None:
            raise ValueError("variant_ids were given without variant_features: pass both, or neither")
        if variant_features.ndim != 2 or variant_features.shape[1] != size:
            raise ValueError(
                f"variant_features have shape {tuple(variant_features.shape)}, expected (n_variants, {size}): features "
                "of variants must be made as the model's gene features were"
            )
        if variant_ids.shape != input_ids.shape:
            raise ValueError(
                f"variant_ids have shape {tuple(variant_ids.shape)} and input_ids {tuple(input_ids.shape)}: give one "
                "id a token, -1 where the reference holds"
            )
        if len(variant_features) == 0 or torch.compiler.is_compiling():
            return variant_features if len(variant_features) else variant_features.new_zeros(1, size)
        if not variant_ids.is_cuda and variant_ids.numel() and int(variant_ids.max()) >= len(variant_features):
            raise ValueError(
                f"variant_ids reach {int(variant_ids.max())}, and variant_features has {len(variant_features)} rows: "
                "ids are places of rows"
            )
        return variant_features


class BioDTAPreTrainedModel(BertPreTrainedModel):
    """Weight initialisation, and what both Bio-DTA classes share."""

    config: BioDTAConfig
    config_class = BioDTAConfig
    base_model_prefix = "bert"
    _no_split_modules = ["BertEmbeddings", "GeneTokenEmbeddings", "BertLayer"]  # noqa: RUF012 (transformers' own form)
    _keep_in_fp32_modules_strict = ["table"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, BertLMPredictionHead) and module.bias is None:
            return
        super()._init_weights(module)
        if isinstance(module, GeneFeatureTable):
            for buffer in (module.features, module.mean, module.standard_deviation):
                init.zeros_(buffer)
            init.ones_(module.difference_scale)
            if module.whitens:
                for rotation in (module.rotation, module.difference_rotation):
                    init.copy_(rotation, torch.eye(len(rotation)))
        elif isinstance(module, GeneTokenEmbeddings):
            self._init_adapters(module)

    def _init_adapters(self, module: GeneTokenEmbeddings) -> None:
        """Unit variance before the softplus for standardised features; a variant starts as its reference."""
        for layer in module.adapter.modules():
            if isinstance(layer, nn.Linear):
                init.normal_(layer.weight, mean=0.0, std=layer.in_features**-0.5)
        if module.difference_adapter is not None:
            init.zeros_(module.difference_adapter.weight)

    def save_pretrained(self, save_directory: Any, *arguments: Any, **keywords: Any) -> None:
        """As in transformers, and the saved code answers to both Auto classes, whichever class was saved."""
        module = __name__.rpartition(".")[2]
        both = {"AutoModel": f"{module}.BioDTAModel", "AutoModelForMaskedLM": f"{module}.BioDTAForMaskedLM"}
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **both}
        super().save_pretrained(save_directory, *arguments, **keywords)

    def set_gene_features(self, features: torch.Tensor) -> None:
        """Set the reference's DNA features and the statistics that standardise them.

        Args:
            features: (vocab_size, dna_feature_size), one row a token id; the rows of special tokens are ignored.

        Raises:
            ValueError: on another shape, on features that are not finite, or for an adapter-free model.
        """
        self._table().set(torch.as_tensor(features))

    def set_variant_scale(self, variant_features: torch.Tensor, gene_token_ids: torch.Tensor) -> None:
        """Set the scale of variants' effects, by which `variant_encoding="difference"` divides differences.

        Args:
            variant_features: (variants, dna_feature_size), e.g. all distinct promoters of the donors trained on.
            gene_token_ids: (variants,) int64, the gene that each row is a variant of.
        """
        self._table().set_difference_scale(torch.as_tensor(variant_features), torch.as_tensor(gene_token_ids))

    def _table(self) -> GeneFeatureTable:
        embeddings = getattr(self.base_model, "gene_token_embeddings", None)
        if embeddings is None:
            raise ValueError('this model has adapter_type="none" and reads no DNA: it takes no gene features')
        table = embeddings.table
        assert isinstance(table, GeneFeatureTable)
        return table


class BioDTAModel(BioDTAPreTrainedModel):
    """Cells to contextual gene embeddings: DNA features -> adapter -> BERT encoder."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\."]  # noqa: RUF012 (the head of BioDTAForMaskedLM)

    def __init__(self, config: BioDTAConfig) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(_word_embedding_config(config))
        self.gene_token_embeddings = GeneTokenEmbeddings(config) if config.adapter_type != "none" else None
        self.encoder = BertEncoder(config)
        take_packed_cells(self.encoder)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        variant_features: torch.Tensor | None = None,
        variant_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        cu_seq_lens_k: torch.Tensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        distinct_token_ids: torch.Tensor | None = None,
        token_places: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Contextual embeddings of the genes of each cell.

        Args:
            input_ids: (cells, genes) int64, genes in descending order of median-normalised expression.
            attention_mask: (cells, genes), 1 for tokens and 0 for padding.
            variant_features: (n_variants, dna_feature_size) float32, features of sequences other than the reference.
            variant_ids: (cells, genes) int64, the row of `variant_features` that a token carries, -1 for the reference.
            position_ids: (cells, genes) int64 ranks; 0, 1, 2, ... of each cell where None.
            inputs_embeds: (cells, genes, hidden), in place of `input_ids`.
            cu_seq_lens_q: (packed cells + 1,) int32, where cells start that lie packed end to end in one row, and the
                row's length: all else is then of shape (1, tokens), there is no `attention_mask`, and genes attend to
                those of their own cell. `cu_seq_lens_k` is the same.
            max_length_q: tokens of the longest packed cell; `max_length_k` is the same.
            distinct_token_ids: (D,) int64, ascending, the token ids of `input_ids`; found where None. Of use to
                `torch.compile`, for which their number must not depend on what tensors hold.
            token_places: (cells, genes) int64, which of `distinct_token_ids` each token has.

        Returns:
            `last_hidden_state` (cells, genes, hidden); on request `hidden_states` (embeddings and each layer's output;
            the penultimate layer is `hidden_states[num_hidden_layers - 1]`) and `attentions`.

        Raises:
            ValueError: where arguments contradict each other, or a cell is longer than the model takes.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        if input_ids is not None:
            inputs_embeds = self._token_embeddings(
                input_ids, variant_features, variant_ids, distinct_token_ids, token_places
            )
        assert inputs_embeds is not None
        packing = {
            "cu_seq_lens_q": cu_seq_lens_q,
            "cu_seq_lens_k": cu_seq_lens_k,
            "max_length_q": max_length_q,
            "max_length_k": max_length_k,
        }
        if any(value is not None for value in packing.values()):
            return self._forward_packed(inputs_embeds, attention_mask, position_ids, packing, **kwargs)
        self._check_length(inputs_embeds.shape[1])
        hidden_states = self.embeddings(inputs_embeds=inputs_embeds, position_ids=position_ids)  # (B, G, H)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask)
        return BaseModelOutput(last_hidden_state=self.encoder(hidden_states, mask, **kwargs).last_hidden_state)

    def _forward_packed(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        packing: dict[str, Any],
        **kwargs: Any,
    ) -> BaseModelOutput:
        """(1, T, H) of cells laid end to end -> the same shape."""
        require_packed(inputs_embeds, attention_mask, packing)
        if kwargs.get("output_attentions") and self.config._attn_implementation != "eager":
            raise ValueError(
                f"attentions of packed cells were asked of {self.config._attn_implementation} attention, which never "
                'holds them: load the model with attn_implementation="eager"'
            )
        self._check_length(packing["max_length_q"])
        cell_starts = packing["cu_seq_lens_q"]
        if position_ids is None:
            position_ids = ranks_within_cells(cell_starts, inputs_embeds.shape[1]).unsqueeze(0)
        hidden_states = self.embeddings(inputs_embeds=inputs_embeds, position_ids=position_ids)  # (1, T, H)
        mask = packed_mask(self.config, hidden_states, cell_starts)
        outputs = self.encoder(hidden_states, mask, **packing, **kwargs)
        return BaseModelOutput(last_hidden_state=outputs.last_hidden_state)

    def _token_embeddings(
        self,
        input_ids: torch.Tensor,
        variant_features: torch.Tensor | None,
        variant_ids: torch.Tensor | None,
        distinct_token_ids: torch.Tensor | None,
        token_places: torch.Tensor | None,
    ) -> torch.Tensor:
        if self.gene_token_embeddings is not None:
            return self.gene_token_embeddings(
                input_ids,
                self.embeddings.word_embeddings,
                variant_features,
                variant_ids,
                distinct_token_ids,
                token_places,
            )
        if variant_ids is not None or variant_features is not None:
            raise ValueError('this model has adapter_type="none": it reads no DNA, so it cannot take variants')
        return self.embeddings.word_embeddings(input_ids)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"a cell has {length:,} tokens, and the model takes at most {self.config.max_position_embeddings:,}: "
                "cut the cells (max_length) or raise max_position_embeddings before training"
            )


class VocabularyDecoder(nn.Linear):
    """The head's last layer, which gives logits, or with targets the loss without holding all of them.

    The loss is a call of the layer, and not only of its weights: FSDP gathers weights where a layer is called.
    """

    def forward(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor | None = None,
        divisor: torch.Tensor | float | None = None,
    ) -> torch.Tensor:
        if targets is None:
            return super().forward(hidden)
        return chunked_linear_cross_entropy(hidden, self.weight, self.bias, targets, divisor=divisor)


class BioDTAForMaskedLM(BioDTAPreTrainedModel):
    """Bio-DTA with the head that names the masked genes."""

    _tied_weights_keys = {  # noqa: RUF012 (transformers' own form)
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: BioDTAConfig) -> None:
        super().__init__(config)
        self.bert = BioDTAModel(config)
        self.cls = BertOnlyMLMHead(config)
        self.cls.predictions.decoder.__class__ = VocabularyDecoder  # the same layer: no second draw of its weights
        if not config.tie_word_embeddings:
            # BERT's second copy of the bias takes no part unless tied, and distributed training refuses such
            # parameters.
            self.cls.predictions.register_parameter("bias", None)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.cls.predictions.decoder = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        variant_features: torch.Tensor | None = None,
        variant_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        masked_positions: torch.Tensor | None = None,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> BioDTAMaskedLMOutput:
        """Arguments as `BioDTAModel.forward`, and:

        Args:
            labels: (cells, genes) int64, the token id at masked positions and -100 elsewhere; with labels the logits
                are those of the masked positions only.
            num_items_in_batch: masked tokens over all batches of an accumulated step, by which the summed loss is
                divided.
            masked_positions: (M,) int64, ascending, where labels are not -100 in the flattened (cells x genes); found
                where None.
            return_logits: False computes the loss some masked tokens at a time, and keeps no logits. Without labels
                there is nothing but logits to return, and they are.
        """
        outputs = self.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            variant_features=variant_features,
            variant_ids=variant_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden, logits, loss = outputs.last_hidden_state, None, None
        if labels is None:
            masked_positions, logits = None, self.cls(hidden)
        else:
            if masked_positions is None:
                masked_positions = (labels.reshape(-1) != IGNORED_LABEL).nonzero().squeeze(1)  # (M,)
            hidden = hidden.reshape(-1, hidden.shape[-1])[masked_positions]  # (M, H)
            targets = labels.reshape(-1)[masked_positions]
            if return_logits:
                logits = self.cls(hidden)
                loss = self._loss(logits, targets, num_items_in_batch)
            else:
                loss = self._chunked_loss(hidden, targets, num_items_in_batch)
        return BioDTAMaskedLMOutput(
            loss=loss,
            logits=logits,
            logits_indices=masked_positions,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(
        self, logits: torch.Tensor, targets: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        if len(targets) == 0:
            return logits.sum() * 0.0  # nothing was masked: a loss of zero that still reaches every parameter
        return self.loss_function(logits, targets, self.config.vocab_size, num_items_in_batch=num_items_in_batch)

    def _chunked_loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        head = self.cls.predictions
        return head.decoder(head.transform(hidden), targets=targets, divisor=num_items_in_batch)


def _distinct_tokens(
    input_ids: torch.Tensor, distinct_token_ids: torch.Tensor | None, token_places: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, G) -> the distinct ids (D,), and which of them each token has (B, G)."""
    if distinct_token_ids is None and token_places is None:
        return torch.unique(input_ids, return_inverse=True)
    if distinct_token_ids is None or token_places is None:
        raise ValueError("distinct_token_ids and token_places belong together: pass both, or neither")
    if token_places.shape != input_ids.shape:
        raise ValueError(
            f"token_places have shape {tuple(token_places.shape)} and input_ids {tuple(input_ids.shape)}: give each "
            "token the place of its id in distinct_token_ids"
        )
    return distinct_token_ids, token_places


def _word_embedding_config(config: BioDTAConfig) -> BioDTAConfig:
    """With an adapter, ordinary embeddings are kept for the special tokens only."""
    if config.adapter_type == "none":
        return config
    reduced = BioDTAConfig(**{**config.to_dict(), "gene_ids": None})
    reduced.vocab_size = config.num_special_tokens
    return reduced


BioDTAModel.register_for_auto_class("AutoModel")
BioDTAForMaskedLM.register_for_auto_class("AutoModelForMaskedLM")
