"""The region ranker: a Nucleotide Transformer and a head that ranks regions of DNA by their accessibility.

Source: "Region Ranking on scATAC", chapter 3: three regions of a span are scored and trained by a listwise loss, so
that the encoder learns chromatin. Beyond it: lists of any number of regions, scores that depend on the cell type.
Shapes: B lists, R regions, T tokens, H hidden.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .accessibility_scorers import ConvolutionalScorer, Readout, make_scorer
from .configuration_nt_region_ranker import NTRegionRankerConfig
from .encoder_weights import TransferableEncoder
from .modeling_nucleotide_transformer import (
    NucleotideTransformerModel,
    NucleotideTransformerPreTrainedModel,
)
from .ranking_losses import RANKING_LOSSES, dense_ranks

# Of scores before training, where what the head reads is of unit scale: near 0, and the encoder has a gradient.
_INITIAL_SCORES_STD = 0.3


@dataclass
class NTRegionRankerOutput(ModelOutput):
    """What `NTRegionRanker` returns.

    Attributes:
        loss: ranking loss, scalar; only with labels.
        scores: (lists, regions) float32; the lower, the less accessible. Training compares regions of one span and cell
            type only, so that is where scores are comparable; a softmax is blind to a shift of a whole list.
        hidden_states: of the encoder, (lists, regions, tokens, hidden) each.
        attentions: (lists, regions, heads, tokens, tokens) a layer.
    """

    loss: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class NTRegionRanker(TransferableEncoder, NucleotideTransformerPreTrainedModel):
    """Regions of DNA to scores of accessibility."""

    config: NTRegionRankerConfig
    config_class = NTRegionRankerConfig

    def __init__(self, config: NTRegionRankerConfig) -> None:
        super().__init__(config)
        self.encoder = NucleotideTransformerModel(config)
        self.cell_type_embeddings = (
            None if config.cell_types is None else nn.Embedding(len(config.cell_types), config.hidden_size)
        )
        self.scorer = make_scorer(config.scorer_head, config.hidden_size, num_tokens=config.num_tokens)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Readout):
            # Weights of 0.02 would give scores of 10 from 256,512 numbers.
            init.normal_(module.weight, mean=0.0, std=_INITIAL_SCORES_STD * module.in_features**-0.5)
        elif isinstance(module, ConvolutionalScorer):
            init.normal_(module.dense.weight, mean=0.0, std=(2.0 / module.dense.in_features) ** 0.5)
        elif module is self.cell_type_embeddings:
            init.zeros_(module.weight)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        cell_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> NTRegionRankerOutput:
        """Scores of the regions of each list.

        Args:
            input_ids: (lists, regions, tokens) int64, <cls> first. Padding may stand in front of a region's tokens and
                behind them: rotary positions are the columns, learned positions count the tokens.
            attention_mask: (lists, regions, tokens), 1 for tokens and 0 for padding; from the padding id where None.
                A region without a token has a score too, that of padding only.
            labels: (lists, regions) accessibility, such as mean fragments a cell; -100 is not scored.
            region_mask: (lists, regions) bool, False where a place of a list holds no region; those have no part in the
                loss, and their scores say nothing. All do where None.
            cell_type_ids: (lists,) int64, places in `config.cell_types`.
            inputs_embeds: (lists, regions, tokens, hidden) token embeddings, in place of those of `input_ids`, which
                may be given beside them for the padding.
            num_items_in_batch: labels other than -100 of an accumulated step, as the Trainer counts them. The loss of
                this batch is then weighted by its share of them: where all lists are alike, the step's sum is the mean
                over all its lists.

        Raises:
            ValueError: where shapes do not fit one another, regions have more tokens than `config.num_tokens` or do not
                begin with <cls>, or cell types are needed and not given, or given and not known.
        """
        hidden_states, is_token, outputs = self._encode(input_ids, attention_mask, inputs_embeds, **kwargs)
        shape = hidden_states.shape[:2]
        if (shift := self._cell_type_shift(cell_type_ids, shape)) is not None:
            hidden_states = hidden_states + shift
        scores = self.scorer(hidden_states.flatten(0, 1), is_token.flatten(0, 1)).view(shape)
        _check_shape("region_mask", region_mask, shape)
        _check_shape("labels", labels, shape)
        return NTRegionRankerOutput(
            loss=None if labels is None else self._loss(scores, labels, region_mask, num_items_in_batch),
            scores=scores,
            hidden_states=_by_list(outputs.hidden_states, shape),
            attentions=_by_list(outputs.attentions, shape),
        )

    def _encode(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """(B, R, T, H), (B, R, T) bool of tokens, and the encoder's output; every region is a row of one batch."""
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None:
            raise ValueError("neither input_ids nor inputs_embeds is given: the scores need one of them")
        axes = "(lists, regions, tokens" + (")" if inputs_embeds is None else ", hidden)")
        if given.dim() != (3 if inputs_embeds is None else 4):
            raise ValueError(
                f"the input has shape {tuple(given.shape)}, expected {axes}; a single list has a first axis of 1"
            )
        shape = given.shape[:3]
        if shape[2] > self.config.num_tokens:  # before the encoder has worked
            raise ValueError(
                f"regions have {shape[2]:,} tokens with <cls>, and config.num_tokens is {self.config.num_tokens:,}: "
                "cut the regions, or make the model with a larger num_tokens"
            )
        _check_shape("input_ids", input_ids, shape)
        _check_shape("attention_mask", attention_mask, shape)
        if attention_mask is not None:
            is_token = attention_mask.bool()
        elif input_ids is not None:
            is_token = input_ids != self.config.pad_token_id
        else:
            is_token = torch.ones(shape, dtype=torch.bool, device=given.device)
        self._check_first_tokens(input_ids, is_token)
        # A region without a token gets a first one: attention over nothing is NaN in some implementations.
        is_seen = is_token.clone()
        is_seen[..., 0] |= ~is_token.any(2)
        rows = {"input_ids" if inputs_embeds is None else "inputs_embeds": given.flatten(0, 1)}
        outputs = self.encoder(attention_mask=is_seen.flatten(0, 1).long(), **rows, **kwargs)
        return outputs.last_hidden_state.unflatten(0, shape[:2]), is_token, outputs

    def _check_first_tokens(self, input_ids: torch.Tensor | None, is_token: torch.Tensor) -> None:
        if input_ids is None or torch.compiler.is_compiling():
            return
        is_wrong = (input_ids[..., 0] != self.config.cls_token_id) & is_token.any(2)
        if bool(is_wrong.any()):
            raise ValueError(
                f"{int(is_wrong.sum()):,} of {is_wrong.numel():,} regions do not begin with <cls> "
                f"({self.config.cls_token_id}), but with {input_ids[..., 0][is_wrong].unique().tolist()[:5]}: encode "
                "them with the model's own tokenizer, and put padding behind <cls>"
            )

    def _cell_type_shift(self, cell_type_ids: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
        """(B, 1, 1, H), added to the encoder's output; None where scores do not depend on the cell type."""
        names = self.config.cell_types
        if self.cell_type_embeddings is None or names is None:
            if cell_type_ids is not None:
                raise ValueError(
                    "cell_type_ids are given, and this model's scores do not depend on the cell type: leave them out, "
                    "or make the model with config.cell_types"
                )
            return None
        if cell_type_ids is None:
            raise ValueError(
                f"this model's scores depend on the cell type: give cell_type_ids (lists,), places in "
                f"config.cell_types, which has {len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            )
        _check_shape("cell_type_ids", cell_type_ids, shape[:1])
        if not torch.compiler.is_compiling():
            unknown = cell_type_ids[(cell_type_ids < 0) | (cell_type_ids >= len(names))]
            if len(unknown):
                raise ValueError(
                    f"cell_type_ids hold {unknown.unique().tolist()[:5]}: expected places from 0 to {len(names) - 1} "
                    "in config.cell_types"
                )
        return self.cell_type_embeddings(cell_type_ids)[:, None, None]

    def _loss(
        self,
        scores: torch.Tensor,
        labels: torch.Tensor,
        region_mask: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        is_labelled = labels != -100
        mask = is_labelled if region_mask is None else is_labelled & region_mask.bool()
        if self.config.ranking_labels == "ranks":
            labels = dense_ranks(labels, mask)
        loss = RANKING_LOSSES[self.config.ranking_loss](scores, labels, mask)
        if num_items_in_batch is None:
            return loss
        return loss * is_labelled.sum() / num_items_in_batch


def _check_shape(name: str, found: torch.Tensor | None, expected: torch.Size) -> None:
    if found is not None and found.shape != expected:
        axes = {1: "(lists,)", 2: "(lists, regions)", 3: "(lists, regions, tokens)"}[len(expected)]
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected {tuple(expected)} {axes} as the input has")


def _by_list(tensors: tuple[torch.Tensor, ...] | None, shape: torch.Size) -> tuple[torch.Tensor, ...] | None:
    return None if tensors is None else tuple(tensor.unflatten(0, shape) for tensor in tensors)


NTRegionRanker.register_for_auto_class("AutoModel")
