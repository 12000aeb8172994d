"""SegmentNT: a Nucleotide Transformer and a U-Net that give each base a probability for each genomic element.

Source: de Almeida et al. 2025 (SegmentNT, https://doi.org/10.1038/s41592-025-02881-2) and its public JAX code. Beyond
it: sequences with N and of any length, and logits that lie base by base even where tokens are single letters.
Shapes: B sequences, T tokens, L bases of the longest sequence, H hidden, E elements, K bases of a k-mer.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_segment_nt import SegmentNTConfig
from .encoder_weights import TransferableEncoder
from .focal_loss import focal_loss
from .modeling_nucleotide_transformer import (
    NucleotideTransformerModel,
    NucleotideTransformerPreTrainedModel,
)
from .segmentation_unet import SegmentationUNet


@dataclass
class SegmentNTOutput(ModelOutput):
    """What `SegmentNTForTokenClassification` returns.

    Attributes:
        loss: focal loss, scalar; only with labels.
        logits: (sequences, bases, elements, 2); softmax over the last axis, entry 1 is the probability.
        base_mask: (sequences, bases) bool: True at A, C, G and T, False at N and behind a sequence's last base.
        hidden_states: of the encoder, (sequences, tokens, hidden) each.
        attentions: (sequences, heads, tokens, tokens) a layer.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    base_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SegmentNTForTokenClassification(TransferableEncoder, NucleotideTransformerPreTrainedModel):
    """DNA to genomic elements, base by base."""

    config: SegmentNTConfig
    config_class = SegmentNTConfig

    def __init__(self, config: SegmentNTConfig) -> None:
        super().__init__(config)
        assert config.unet_channels is not None and config.num_labels is not None
        self.encoder = NucleotideTransformerModel(config)
        self.unet = SegmentationUNet(config.hidden_size, config.unet_channels, config.unet_convolutions)
        self.classifier = nn.Linear(config.hidden_size, config.kmer_size * config.num_labels * 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> SegmentNTOutput:
        """Logits of each base.

        Args:
            input_ids: (sequences, tokens) int64, <cls> first. Base i of the logits is base i of the sequence: a k-mer
                stands for `kmer_size` bases, a letter for one, <cls> and padding for none. Needed beside
                `inputs_embeds` wherever tokens are not all k-mers.
            attention_mask: (sequences, tokens), 1 for tokens and 0 for padding; from the padding id where None.
            inputs_embeds: (sequences, tokens, hidden) token embeddings, in place of those of `input_ids`.
            labels: (sequences, bases, elements) integers: 1 carries the element, 0 does not, -100 is not scored. N and
                padding are never scored.
            num_items_in_batch: scored labels of an accumulated step, by which the summed loss is divided.

        Raises:
            ValueError: where sequences do not begin with <cls>, labels do not fit the bases, or inputs are longer than
                the model was trained with and `config.rescaling_factor` is None.
        """
        if attention_mask is None and input_ids is not None:
            attention_mask = (input_ids != self.config.pad_token_id).long()
        ids_or_embeddings = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        outputs = self.encoder(attention_mask=attention_mask, **ids_or_embeddings, **kwargs)
        hidden_states = outputs.last_hidden_state[:, 1:]  # (B, T - 1, H)
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask[:, 1:].bool()
        logits = self.classifier(F.silu(self.unet(hidden_states, mask)))  # (B, T - 1, K x E x 2)
        logits = logits.unflatten(2, (self.config.kmer_size, self.config.num_labels, 2))
        logits, base_mask = self._by_base(logits, input_ids)
        return SegmentNTOutput(
            loss=None if labels is None else self._loss(logits, base_mask, labels, num_items_in_batch),
            logits=logits,
            base_mask=base_mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @torch.no_grad()
    def set_class_priors(self, frequencies: torch.Tensor) -> None:
        """Set the classifier's biases so that an untrained model gives each element its own frequency.

        Rare elements then do not begin with the loss of guessing one half everywhere (Lin et al. 2017, section 3.3).

        Args:
            frequencies: (elements,) share of bases that carry each element; held within [1e-6, 1 - 1e-6].
        """
        log_odds = torch.as_tensor(frequencies, dtype=torch.float32).clamp(1e-6, 1 - 1e-6).logit()
        if log_odds.shape != (self.config.num_labels,):
            raise ValueError(f"frequencies have shape {tuple(log_odds.shape)}, expected ({self.config.num_labels},)")
        biases = torch.stack((-log_odds / 2, log_odds / 2), dim=1).expand(self.config.kmer_size, -1, -1)
        self.classifier.bias.copy_(biases.flatten())

    def _by_base(self, logits: torch.Tensor, input_ids: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T - 1, K, E, 2) of token slots -> (B, L, E, 2) of bases, and (B, L) where there are A, C, G or T."""
        slots = logits.flatten(1, 2)  # (B, (T - 1) K, E, 2)
        if input_ids is None:
            return slots, torch.ones(slots.shape[:2], dtype=torch.bool, device=slots.device)
        sizes, is_known = self._token_sizes(input_ids)
        if bool((sizes == self.config.kmer_size).all()):
            return slots, is_known.repeat_interleave(self.config.kmer_size, dim=1)
        place = torch.arange(self.config.kmer_size, device=sizes.device)
        is_base = (place < sizes.unsqueeze(2)).flatten(1)  # (B, (T - 1) K)
        counts = is_base.sum(1)
        longest = int(counts.max())
        # Stable: bases keep their order and come before the slots that stand for none.
        order = (~is_base).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (B, L)
        index = order[:, :, None, None].expand(-1, -1, *slots.shape[2:])
        is_known_slot = is_known.repeat_interleave(self.config.kmer_size, dim=1) & is_base
        return slots.gather(1, index), is_known_slot.gather(1, order)

    def _token_sizes(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bases that each token behind <cls> stands for (B, T - 1), and whether it is other than N and padding."""
        config = self.config
        assert config.kmer_token_ids is not None and config.letter_token_ids is not None
        if not bool((input_ids[:, 0] == config.cls_token_id).all()):
            raise ValueError(
                f"sequences must begin with <cls> ({config.cls_token_id}), found "
                f"{sorted(set(input_ids[:, 0].tolist()) - {config.cls_token_id})[:5]} in front: encode them with the "
                "model's own tokenizer"
            )
        tokens = input_ids[:, 1:]
        is_kmer = (tokens >= config.kmer_token_ids[0]) & (tokens < config.kmer_token_ids[1])
        is_kmer |= tokens == config.mask_token_id  # stands in a k-mer's place
        is_letter = (tokens >= config.letter_token_ids[0]) & (tokens < config.letter_token_ids[1])
        sizes = is_kmer * config.kmer_size + is_letter.long()
        return sizes, (is_kmer | is_letter) & (tokens != config.n_token_id)

    def _loss(
        self,
        logits: torch.Tensor,
        base_mask: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        if labels.shape != logits.shape[:3]:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, and the tokens stand for {tuple(logits.shape[:3])} "
                "(sequences, bases, elements): give a label a base of the longest sequence, -100 behind other ends"
            )
        weights = self.config.class_weights
        return focal_loss(
            logits,
            labels.masked_fill(~base_mask.unsqueeze(2), -100),
            self.config.focal_gamma,
            class_weights=None if weights is None else torch.tensor(weights, device=logits.device),
            num_items=num_items_in_batch,
        )


SegmentNTForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
