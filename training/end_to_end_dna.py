"""Bio-DTA and the Enformer behind its gene features, trained together.

A batch of cells names thousands of genes. Windows of some of them, chosen by seed and pass, go through the encoder with
gradient, dealt to the processes; the other genes keep their row of the model's table, which takes the new features of
those that passed. Batch norms keep their statistics and dropout stays off, so that a gene's features are a function of
its window and the weights alone, the same in any chunk of windows and in a perturbation later.
Source: beyond "Multi-modal single-cell foundation models via dynamic token adaptation", which trains on fixed features.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from peft import PeftModel
from torch import nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from ..modeling.gene_feature_table import GeneFeatureTable
from ..modeling.modeling_bio_dta import BioDTAForMaskedLM, BioDTAMaskedLMOutput
from ..modeling.modeling_enformer import EnformerForGeneFeatures, Layer
from .gathered_rows import gathered_rows, rank, world_size
from .gene_windows import UNKNOWN_BASE, GeneWindows
from .hashed_randomness import keys_of

Checkpointing = Literal["none", "windows", "blocks"]
_ROWS_A_ROUND = 32  # windows a process encodes before they are gathered, where all genes are


class BioDTAWithDNAEncoder(nn.Module):
    """`BioDTAForMaskedLM` whose gene features come from an Enformer in the same backward pass.

    In evaluation it is the cell model by itself, on the table as it is.

    Args:
        model: with gene features set; their statistics stay as they are.
        dna_encoder: the Enformer that made them, or peft's model around it.
        windows: of the vocabulary's genes.
        layer, pool: as `EnformerForGeneFeatures.gene_features`.
        windows_per_step: genes of a batch, of all processes together, that are encoded anew; with gradient
            accumulation of each of its batches.
        windows_per_chunk: windows that go through the encoder together.
        checkpointing: what is recomputed in the backward pass: nothing; a chunk at a time; or, in a chunk, a block of
            layers at a time, which computes a third time and holds one block's activations.
        seed: of the choice of genes.

    Attributes:
        passes: training passes so far, scalar int64, saved with the weights: a resumed run goes on with its choices.

    Raises:
        ValueError: where model, encoder and windows do not fit each other, or nothing of the encoder is trained.
    """

    accepts_loss_kwargs = True  # for transformers.Trainer: `num_items_in_batch` is passed on
    passes: torch.Tensor
    base_vectors: torch.Tensor

    def __init__(
        self,
        model: BioDTAForMaskedLM,
        dna_encoder: EnformerForGeneFeatures | PeftModel,
        windows: GeneWindows,
        *,
        layer: Layer = "final_pointwise",
        pool: Literal["all"] | int = "all",
        windows_per_step: int = 32,
        windows_per_chunk: int = 1,
        checkpointing: Checkpointing = "windows",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.dna_encoder = dna_encoder
        self.layer: Layer = layer
        self.pool = pool
        self.windows = windows
        self.windows_per_step = windows_per_step
        self.windows_per_chunk = windows_per_chunk
        self.checkpointing = checkpointing
        self.seed = seed
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        base_vectors = torch.eye(UNKNOWN_BASE + 1, 4)  # N is all zero
        self.register_buffer("base_vectors", base_vectors, persistent=False)
        _replace_synchronised_norms(self.dna_encoder)
        self._check()
        self._freeze_unused()
        self.train(self.training)

    @property
    def enformer(self) -> EnformerForGeneFeatures:
        """The encoder itself, with LoRA's layers in it where it is adapted."""
        encoder = self.dna_encoder.get_base_model() if isinstance(self.dna_encoder, PeftModel) else self.dna_encoder
        assert isinstance(encoder, EnformerForGeneFeatures)
        return encoder

    @property
    def table(self) -> GeneFeatureTable:
        """Features of all genes, as each last came out of the encoder."""
        return self.model._table()

    def train(self, mode: bool = True) -> "BioDTAWithDNAEncoder":
        """As in torch, but the encoder's batch norms and dropout stay as in evaluation."""
        super().train(mode)
        self.dna_encoder.eval()
        return self

    def activation_checkpointing_enable(self, *arguments: Any, **settings: Any) -> None:
        """Of the cell model; the encoder has `checkpointing`."""
        self.model.activation_checkpointing_enable(*arguments, **settings)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor | None = None, **inputs: Any
    ) -> BioDTAMaskedLMOutput:
        """As `BioDTAForMaskedLM.forward`, for batches without variants; in training the table is refreshed too."""
        if not self.training:
            return self.model(input_ids=input_ids, labels=labels, **inputs)
        if inputs.get("variant_ids") is not None:
            raise ValueError(
                "the batch has variant_ids: donors' DNA cannot be trained end to end; leave out donor_column"
            )
        genes = self._chosen_genes(input_ids)
        features = self._encode_together(genes)  # (N, F)
        places = input_ids.new_full((self.model.config.vocab_size,), -1)
        rows = torch.from_numpy(genes).to(places.device)
        places[rows] = torch.arange(len(genes), device=places.device)
        with torch.no_grad():
            self.table.features[rows] = features.detach().to(self.table.features.dtype)
            self.passes += 1
        return self.model(
            input_ids=input_ids, labels=labels, variant_features=features, variant_ids=places[input_ids], **inputs
        )

    @torch.no_grad()
    def refresh_table(self, *, bf16: bool = False, progress: bool = False) -> None:
        """Encode all genes with the weights as they are; all processes call it, and do a share each.

        Args:
            bf16: compute under autocast to bfloat16.
            progress: show a progress bar.
        """
        first, last = self.table.num_special_tokens, self.model.config.vocab_size
        rounds = range(first, last, _ROWS_A_ROUND * world_size())
        device = self.base_vectors.device.type
        for start in tqdm(rounds, desc="encoding all genes", disable=not progress or rank() > 0):
            genes = np.arange(start, min(start + _ROWS_A_ROUND * world_size(), last))
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                self.table.features[genes[0] : genes[-1] + 1] = self._encode_together(genes)

    def merge_adapter(self) -> None:
        """Add LoRA's part to the encoder's own weights, for good; nothing where there is none."""
        if isinstance(self.dna_encoder, PeftModel):
            self.dna_encoder = self.dna_encoder.merge_and_unload()

    def encode(self, codes: torch.Tensor) -> torch.Tensor:
        """(windows, window_bp) uint8 codes of bases -> (windows, F) float32."""
        recompute = self.checkpointing != "none" and torch.is_grad_enabled()
        chunks = [
            _checkpointed(self._features, chunk) if recompute else self._features(chunk)
            for chunk in codes.to(self.base_vectors.device).split(self.windows_per_chunk)
        ]
        return torch.cat(chunks)

    def _encode_together(self, genes: npt.NDArray[np.int64]) -> torch.Tensor:
        """(N,) token ids, the same on all processes -> (N, F) on all of them; each encodes as many windows."""
        share = -(-len(genes) // world_size())
        own = np.resize(genes, share * world_size())[rank() * share :][:share]
        return gathered_rows(self.encode(self.windows.codes(own)))[: len(genes)]

    def _features(self, codes: torch.Tensor) -> torch.Tensor:
        encoder = self.enformer
        states = self.base_vectors[codes.long()].to(encoder.dtype).transpose(1, 2)  # (windows, 4, window_bp)
        for block in (encoder.stem, *encoder.conv_tower):
            states = self._run(block, states)
        states = states.transpose(1, 2)  # (windows, positions, dim)
        if self.layer != "conv_tower":
            for block in encoder.transformer:
                states = self._run(block, states)
        return encoder.features_from(states, layer=self.layer, pool=self.pool)

    def _run(self, block: nn.Module, states: torch.Tensor) -> torch.Tensor:
        recompute = self.checkpointing == "blocks" and torch.is_grad_enabled()
        return _checkpointed(block, states) if recompute else block(states)

    def _chosen_genes(self, input_ids: torch.Tensor) -> npt.NDArray[np.int64]:
        """(N,) token ids of genes in the batches of all processes, ascending; N is windows_per_step at most."""
        present = torch.zeros(self.model.config.vocab_size, dtype=torch.uint8, device=input_ids.device)
        present[input_ids.reshape(-1)] = 1
        if world_size() > 1:
            torch.distributed.all_reduce(present, torch.distributed.ReduceOp.MAX)
        special = self.table.num_special_tokens
        genes = special + np.flatnonzero(present[special:].cpu().numpy())
        if not len(genes):
            genes = np.array([special])  # a batch of masks alone: all parameters still take part
        keys = keys_of(genes, self.seed, int(self.passes))
        return np.sort(genes[np.argsort(keys, kind="stable")[: self.windows_per_step]])

    def _check(self) -> None:
        config, encoder = self.model.config, self.enformer
        if config.variant_encoding != "replace":
            raise ValueError(
                f"variant_encoding is {config.variant_encoding}: an encoder that is trained too has no fixed reference "
                "to take differences to; set variant_encoding replace"
            )
        self.table.require_set()
        genes = config.vocab_size - config.num_special_tokens
        if len(self.windows) != genes:
            raise ValueError(f"there are windows of {len(self.windows):,} genes, and the vocabulary has {genes:,}")
        if encoder.feature_size(self.layer) != config.dna_feature_size:
            raise ValueError(
                f"the encoder gives {encoder.feature_size(self.layer):,} features a gene ({self.layer}), and the model "
                f"reads {config.dna_feature_size:,}: give the Enformer that made the gene features"
            )
        encoder.check_window(torch.empty(1, self.windows.window_bp, 4, device="meta"), self.pool)

    def _freeze_unused(self) -> None:
        """Heads, and layers above the one that is read, get no gradient: distributed training refuses such weights."""
        for part in self._unused_parts():
            part.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.dna_encoder.parameters()):
            raise ValueError(
                f"no weight of the DNA encoder below its layer {self.layer} is trained: choose other lora_targets, or "
                "tune_dna_model full"
            )

    def _unused_parts(self) -> Iterator[nn.Module]:
        yield self.enformer._heads
        if self.layer != "final_pointwise":
            yield self.enformer.final_pointwise
        if self.layer == "conv_tower":
            yield self.enformer.transformer


def _checkpointed(function: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    # Nothing is drawn at random in the encoder, so no state of a generator need be kept.
    recomputed = checkpoint(function, states, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(recomputed, torch.Tensor)
    return recomputed


def _replace_synchronised_norms(encoder: nn.Module) -> None:
    """enformer_pytorch takes SyncBatchNorm where processes train together, and torch refuses to train it on a CPU.

    With fixed statistics there is nothing to synchronise, and the plain kind has the same weights.
    """
    for module in list(encoder.modules()):
        for name, norm in list(module.named_children()):
            if isinstance(norm, nn.SyncBatchNorm):
                plain = nn.BatchNorm1d(norm.num_features, eps=norm.eps, momentum=norm.momentum, device="meta")
                plain.weight, plain.bias = norm.weight, norm.bias  # the same parameters, trained or not
                plain.running_mean, plain.running_var = norm.running_mean, norm.running_var
                plain.num_batches_tracked = norm.num_batches_tracked
                setattr(module, name, plain)
