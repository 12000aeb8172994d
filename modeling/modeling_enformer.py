"""Enformer as a source of DNA features: enformer_pytorch's model, made to load, save and pool on transformers 5.

Source: "Effective gene expression prediction from sequence by integrating long-range interactions", Avsec et al. 2021;
features as in "Multi-modal single-cell foundation models via dynamic token adaptation", section "DNA features".
Edits of one window go through `incremental`, which computes the convolutions anew only where they reach.
Deviations: the sequential `_trunk`, which repeats all weights under second names, is no longer part of the state;
either set of names loads, and one is saved.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from enformer_pytorch.modeling_enformer import Attention, AttentionPool, Enformer, str_to_one_hot
from torch import nn
from transformers import initialization as init

from .configuration_enformer import EnformerConfig
from .incremental_enformer import IncrementalEnformer

OFFICIAL_WEIGHTS = "EleutherAI/enformer-official-rough"
TF_GAMMA_POSITIONS = 1536
Layer = Literal["final_pointwise", "transformer", "conv_tower"]

# Names of the published checkpoint's trunk -> names of its parts.
TRUNK_NAMES = {
    r"^_trunk\.1\.": "stem.",
    r"^_trunk\.2\.": "conv_tower.",
    r"^_trunk\.4\.": "transformer.",
    r"^_trunk\.6\.": "final_pointwise.",
}


class EnformerForGeneFeatures(Enformer):
    """Enformer with `gene_features`: the mean over positions of one of its layers, for windows of any length."""

    config_class = EnformerConfig
    config: EnformerConfig

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__(config)
        del self._modules["_trunk"]
        self.post_init()

    @classmethod
    def from_pretrained(cls, name: Any, *arguments: Any, **settings: Any) -> "EnformerForGeneFeatures":
        """Load a folder or Hub repository, with the published names or those that `save_pretrained` writes.

        The official weights get `use_tf_gamma=True` unless told otherwise; pass it for a local copy of them.
        """
        if str(name) == OFFICIAL_WEIGHTS:
            settings.setdefault("use_tf_gamma", True)
        loaded = super().from_pretrained(name, *arguments, **{"key_mapping": TRUNK_NAMES, **settings})
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        model._weight_conversions = None  # save under the names of the parts, whichever were read
        return cast("EnformerForGeneFeatures", loaded)

    @property
    def _trunk(self) -> nn.Sequential:
        """What the parent class runs in `forward`: a view of the parts."""
        return nn.Sequential(
            _SwapLastAxes(),
            self.stem,
            self.conv_tower,
            _SwapLastAxes(),
            self.transformer,
            self.crop_final,
            self.final_pointwise,
        )

    @property
    def bases_per_position(self) -> int:
        """128 for the published model."""
        return 2**self.config.num_downsamples

    def feature_size(self, layer: Layer = "final_pointwise") -> int:
        """Numbers a gene that `gene_features` gives for this layer."""
        _check_layer(layer)
        return 2 * self.config.dim if layer == "final_pointwise" else self.config.dim

    def gene_features(
        self,
        sequences: torch.Tensor | Sequence[str],
        *,
        layer: Layer = "final_pointwise",
        pool: Literal["all"] | int = "all",
    ) -> torch.Tensor:
        """The mean over positions of a layer's output.

        Args:
            sequences: one-hot (batch, bases, 4) in the order A, C, G, T with N all zero, or equally long strings of
                ACGTN. The number of bases is a multiple of `bases_per_position`.
            layer: `final_pointwise` (the paper; 2 * dim numbers), `transformer` or `conv_tower` (dim numbers).
            pool: "all" for all positions that `target_length` keeps (the paper), or how many at the centre; the
                window's middle base, the TSS, is in the middle one.

        Returns:
            (batch, size) float32, averaged in float32 whatever the model's dtype.

        Raises:
            ValueError: on a shape, length, layer or pool that the model cannot take.
        """
        one_hot = self.one_hot(sequences)
        self.check_window(one_hot, pool)
        _check_layer(layer)
        tower = self.run_tower(one_hot)
        return self.features_from(tower if layer == "conv_tower" else self.transformer(tower), layer=layer, pool=pool)

    def predicted_expression(
        self,
        sequences: torch.Tensor | Sequence[str],
        *,
        tracks: Sequence[int],
        head: str = "human",
        centre_bins: int = 3,
    ) -> torch.Tensor:
        """What the model's own heads predict at the TSS.

        Args:
            sequences: as for `gene_features`.
            tracks: numbers of the head's tracks, such as the CAGE tracks of a tissue.
            head: one of `config.output_heads`.
            centre_bins: positions whose predictions are added up, since a track counts reads. 3, the TSS's own and one
                on either side, is what the field reads a gene's CAGE from. An even number reaches further behind the
                TSS.

        Returns:
            (sequences, tracks) float32: the sum over the centre positions, not logged.

        Raises:
            ValueError: on sequences that the model cannot take, or a head, tracks or number of bins that it lacks.
        """
        one_hot = self.one_hot(sequences)
        self.check_window(one_hot)
        self.check_tracks(tracks, head=head, centre_bins=centre_bins, positions=self._positions(one_hot))
        hidden = self.transformer(self.run_tower(one_hot))
        return self.expression_from(hidden, tracks=tracks, head=head, centre_bins=centre_bins)

    def incremental(self, reference: torch.Tensor | str) -> IncrementalEnformer:
        """`gene_features` and `predicted_expression` for edits of one window, recomputed only where they reach."""
        return IncrementalEnformer(self, reference)

    def one_hot(self, sequences: torch.Tensor | Sequence[str]) -> torch.Tensor:
        """(sequences, bases, 4) on the model's device and in its dtype; from strings of ACGTN, or as it is given."""
        one_hot = sequences if isinstance(sequences, torch.Tensor) else str_to_one_hot(list(sequences))
        return one_hot.to(self.device, self.dtype)

    def run_tower(self, one_hot: torch.Tensor) -> torch.Tensor:
        """The convolutions: (batch, bases, 4) to (batch, positions, dim)."""
        return self.conv_tower(self.stem(one_hot.transpose(1, 2))).transpose(1, 2)

    def features_from(self, states: torch.Tensor, *, layer: Layer, pool: Literal["all"] | int) -> torch.Tensor:
        """Gene features from (batch, positions, dim): the tower's output for "conv_tower", else the transformer's."""
        states = self._centre(states, pool)  # before the last layer, which looks at one position at a time
        if layer == "final_pointwise":
            states = self.final_pointwise(states)  # (batch, positions, 2 * dim)
        return states.float().mean(dim=1)

    def expression_from(
        self, hidden: torch.Tensor, *, tracks: Sequence[int], head: str, centre_bins: int
    ) -> torch.Tensor:
        """Predicted expression (batch, tracks) from the transformer's output (batch, positions, dim)."""
        states = self.final_pointwise(self._centre(hidden, centre_bins))  # (batch, centre_bins, 2 * dim)
        return self._heads[head](states)[..., list(tracks)].float().sum(dim=1)

    def _positions(self, one_hot: torch.Tensor) -> int:
        return one_hot.shape[1] // self.bases_per_position

    def _centre(self, states: torch.Tensor, pool: Literal["all"] | int) -> torch.Tensor:
        positions, kept = states.shape[1], self.config.target_length
        if isinstance(pool, int):
            kept = pool
        if kept == -1 or kept >= positions:
            return states
        first = (positions - kept + 1) // 2  # the TSS is the first base of position `positions // 2`
        return states[:, first : first + kept]

    def check_window(self, one_hot: torch.Tensor, pool: Literal["all"] | int = "all") -> None:
        """Raise a ValueError where `gene_features` cannot take this shape (batch, bases, 4) or pool."""
        if one_hot.ndim != 3 or one_hot.shape[2] != 4:
            raise ValueError(f"one-hot sequences have shape {tuple(one_hot.shape)}; expected (batch, bases, 4)")
        bases = one_hot.shape[1]
        positions, rest = divmod(bases, self.bases_per_position)
        if rest or not positions:
            raise ValueError(
                f"the window has {bases:,} bp; this Enformer needs a multiple of {self.bases_per_position} bp"
            )
        if self.config.use_tf_gamma and positions != TF_GAMMA_POSITIONS:
            raise ValueError(
                f"the window has {bases:,} bp and use_tf_gamma is on: the official weights' relative positions exist "
                f"for {TF_GAMMA_POSITIONS * self.bases_per_position:,} bp only"
            )
        if pool != "all" and not (isinstance(pool, int) and 0 < pool <= positions):
            raise ValueError(
                f'pool is {pool!r}; expected "all" or a number of centre positions from 1 to {positions:,}'
            )

    def check_tracks(self, tracks: Sequence[int], *, head: str, centre_bins: int, positions: int) -> None:
        """Raise a ValueError where `predicted_expression` cannot take these for a window of so many positions."""
        heads = self.config.output_heads
        if head not in heads:
            raise ValueError(f"the model has no head {head!r}: its heads are {', '.join(heads) or 'none'}")
        if not len(tracks):
            raise ValueError(f"no tracks are given: name at least one of the {heads[head]:,} of head {head!r}")
        unknown = [track for track in tracks if not 0 <= track < heads[head]]
        if unknown:
            raise ValueError(
                f"track {unknown[0]} is not in head {head!r}: expected numbers from 0 to {heads[head] - 1:,}"
            )
        if not 0 < centre_bins <= positions:
            raise ValueError(f"centre_bins is {centre_bins}; expected a number of positions from 1 to {positions:,}")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """enformer_pytorch's own initialisation; transformers' would overwrite it."""
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, AttentionPool):
            init.dirac_(module.to_attn_logits.weight)
            module.to_attn_logits.weight.mul_(2)
        elif isinstance(module, Attention):
            init.zeros_(module.to_out.weight)
            init.zeros_(module.to_out.bias)
            init.normal_(module.rel_content_bias)
            init.normal_(module.rel_pos_bias)


class _SwapLastAxes(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states.transpose(1, 2)


def _check_layer(layer: str) -> None:
    if layer not in ("final_pointwise", "transformer", "conv_tower"):
        raise ValueError(f"layer is {layer!r}; expected final_pointwise, transformer or conv_tower")


EnformerForGeneFeatures.register_for_auto_class("AutoModel")
