"""The multiome Performer: cells with RNA, ATAC or both to embeddings of genes and of the cell.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4: a path a modality, the mean of
both where a cell has both, and reconstruction of masked values from that joint embedding. Beyond it: missing values,
subsets and orders of genes, exact attention in the same weights, a joint embedding by cross-attention, and imputation
of a modality that is not given.
Shapes: B cells, N genes given, H hidden, L labelled values.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from .configuration_multiome_performer import MODALITIES, MultiomePerformerConfig
from .multiome_blocks import MultiomePerformerCrossLayer, MultiomePerformerPath
from .multiome_embeddings import GeneFeatures, MultiomeEmbeddings
from .multiome_heads import ConvolutionalClassifier, LinearClassifier, classification_loss, reconstruction_loss
from .multiome_input_checks import check_cell_types, check_inputs, check_value_labels, require_modality
from .multiome_outputs import (
    MultiomePerformerForCellTypeClassificationOutput,
    MultiomePerformerForPreTrainingOutput,
    MultiomePerformerOutput,
)
from .performer_attention import RandomFeatures

# Opening a checkpoint that lacks them draws the features anew.
_KEYS_TO_DRAW = [r"random_features\.projection$", r"trained_batches$"]
_HEADS_OF_PRETRAINING = r"^(rna|atac)_head\."
_HEAD_OF_CLASSIFICATION = r"^classifier\."


class MultiomePerformerPreTrainedModel(PreTrainedModel):
    """Weight initialisation, and what the models share."""

    config: MultiomePerformerConfig
    config_class = MultiomePerformerConfig
    base_model_prefix = "performer"
    main_input_name = "rna_values"
    supports_gradient_checkpointing = True
    _no_split_modules = [  # noqa: RUF012 (transformers' own form)
        "MultiomeEmbeddings",
        "MultiomePerformerLayer",
        "MultiomePerformerCrossLayer",
    ]
    _keep_in_fp32_modules_strict = ["random_features", "gene_features"]  # noqa: RUF012
    _keys_to_ignore_on_load_missing = _KEYS_TO_DRAW

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RandomFeatures):
            init.copy_(module.projection, module.draw(0))
        elif isinstance(module, MultiomePerformerPath) and module.cls_token is not None:
            init.normal_(module.cls_token, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, GeneFeatures):
            init.zeros_(module.features)
        elif isinstance(module, MultiomeEmbeddings) and module.gene_adapter is not None:
            # Unit variance before the softplus for standardised features.
            init.normal_(module.gene_adapter.weight, mean=0.0, std=module.gene_adapter.in_features**-0.5)
        elif isinstance(module, MultiomePerformerModel):
            init.zeros_(module.trained_batches)
        elif isinstance(module, ConvolutionalClassifier):
            for layer in (module.convolution, module.first, module.second):  # He's rule
                init.normal_(layer.weight, mean=0.0, std=(2.0 / layer.weight[0].numel()) ** 0.5)
                assert layer.bias is not None
                init.zeros_(layer.bias)
        elif isinstance(module, MultiomePerformerForCellTypeClassification) and module.class_weights is not None:
            init.copy_(module.class_weights, torch.tensor(self.config.class_weights))

    def save_pretrained(self, save_directory: Any, *arguments: Any, **keywords: Any) -> None:
        """As in transformers, and the saved code answers to all Auto classes, whichever class was saved."""
        module = __name__.rpartition(".")[2]
        models = {
            "AutoModel": f"{module}.MultiomePerformerModel",
            "AutoModelForPreTraining": f"{module}.MultiomePerformerForPreTraining",
            "AutoModelForSequenceClassification": f"{module}.MultiomePerformerForCellTypeClassification",
        }
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **models}
        super().save_pretrained(save_directory, *arguments, **keywords)

    def set_gene_features(self, features: torch.Tensor) -> None:
        """Set the table from which gene tokens are made, e.g. DNA features of promoters.

        Args:
            features: (num_genes, gene_feature_size), one row a gene; each column is brought to one scale.

        Raises:
            ValueError: on another shape, on features that are not finite, or for a model without such a table.
        """
        encoder: Any = self.base_model
        table: GeneFeatures | None = encoder.gene_features
        if table is None:
            raise ValueError(
                "this model has gene_feature_size=None and learns its gene tokens: make it with gene_feature_size="
                f"{features.shape[-1]} to read these features, or use set_gene_embeddings"
            )
        table.set(torch.as_tensor(features), self.config.gene_ids)

    @torch.no_grad()
    def set_gene_embeddings(self, table: torch.Tensor, modality: str) -> None:
        """Begin training from given gene tokens, e.g. gene2vec's.

        Args:
            table: (num_genes, hidden_size), one row a gene.
            modality: of the path, `rna` or `atac`.

        Raises:
            ValueError: on another shape, numbers that are not finite, a modality that the model lacks, or a model that
                makes its gene tokens from features.
        """
        require_modality(self.config, modality, f'modality "{modality}"')
        encoder: Any = self.base_model
        embeddings: nn.Embedding | None = encoder.paths[modality].embeddings.gene_embeddings
        if embeddings is None:
            raise ValueError(
                "this model makes its gene tokens from gene features: use set_gene_features, or make the model with "
                "gene_feature_size=None"
            )
        table = torch.as_tensor(table)
        if table.shape != embeddings.weight.shape:
            raise ValueError(
                f"gene embeddings have shape {tuple(table.shape)}, and the model expects (num_genes, hidden_size) = "
                f"{tuple(embeddings.weight.shape)}: one row a gene, in the order of the model's genes"
            )
        if not bool(table.isfinite().all()):
            raise ValueError(f"{int((~table.isfinite()).any(1).sum()):,} genes have embeddings that are not finite")
        embeddings.weight.copy_(table)


class MultiomePerformerModel(MultiomePerformerPreTrainedModel):
    """The encoder.

    In training, random features are drawn anew after every `config.feature_redraw_interval` batches; the buffer
    `trained_batches` counts them, so that a resumed run goes on with the same features, and all processes have the
    same.
    """

    trained_batches: torch.Tensor
    _keys_to_ignore_on_load_unexpected = [_HEADS_OF_PRETRAINING, _HEAD_OF_CLASSIFICATION]  # noqa: RUF012 (HF's form)

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__(config)
        self.gene_features = (
            None if config.gene_feature_size is None else GeneFeatures(config.num_genes, config.gene_feature_size)
        )
        names = [name for name in MODALITIES if name in config.modalities]
        self.paths = nn.ModuleDict({name: MultiomePerformerPath(config, name) for name in names})
        self.cross_layers: nn.ModuleDict | None = None
        if config.joint_embedding == "cross_attention":
            self.cross_layers = nn.ModuleDict(
                {
                    name: MultiomePerformerCrossLayer(config, (number, config.num_hidden_layers))
                    for number, name in enumerate(MODALITIES)
                }
            )
        self.register_buffer("trained_batches", torch.zeros((), dtype=torch.int64))
        self._trained_batches: int | None = None  # the same, read without waiting for a GPU
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        rna_values: torch.Tensor | None = None,
        atac_values: torch.Tensor | None = None,
        rna_mask: torch.Tensor | None = None,
        atac_mask: torch.Tensor | None = None,
        gene_positions: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,  # noqa: ARG002 (what the Trainer passes to every model)
    ) -> MultiomePerformerOutput:
        """Embeddings of cells and their genes, from one modality or both.

        Args:
            rna_values: (cells, genes) integers: 0 for zero, 1 to num_value_bins, `config.mask_value_id` where masked.
            atac_values: (cells, genes) likewise.
            rna_mask: (cells, genes) bool, False where a value is missing: what stands there is not read, no gene
                attends to it, and it has no part in the cell embedding. Its own hidden state is that of a masked value.
                None: nothing is missing.
            atac_mask: (cells, genes) likewise.
            gene_positions: (genes,) or (cells, genes) int64, which of the model's genes each column is; 0, 1, 2, ...
                where None.
            output_hidden_states: also return the embeddings and each layer's output.

        Raises:
            ValueError: where no modality is given, or one that the model lacks, shapes differ, or values or positions
                are out of range.
        """
        masks = {"rna": rna_mask, "atac": atac_mask}
        values = check_inputs(
            self.config, {"rna": rna_values, "atac": atac_values}, masks=masks, gene_positions=gene_positions
        )
        if self.training and torch.is_grad_enabled():
            self._count_batch()
        keeps_states = bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states)
        features = None if self.gene_features is None else self.gene_features.require_set()
        key_masks = {name: self._with_cls(masks[name]) for name in values}
        states: dict[str, list[torch.Tensor]] = {}
        for name, ids in values.items():
            mask = masks[name]
            ids = ids if mask is None else ids.masked_fill(~mask.bool(), self.config.mask_value_id)
            states[name] = self.paths[name](ids, key_masks[name], gene_positions, features, keeps_states=keeps_states)
        self._cross(states, key_masks)
        cells = {name: self._pool(states[name][-1], values[name], masks[name]) for name in values}
        joint = [_mean(list(level))[:, self._num_cls :] for level in zip(*states.values(), strict=True)]
        return MultiomePerformerOutput(
            last_hidden_state=joint[-1],
            cell_embedding=_mean(list(cells.values())),
            rna_cell_embedding=cells.get("rna"),
            atac_cell_embedding=cells.get("atac"),
            hidden_states=tuple(joint) if keeps_states else None,
        )

    @property
    def _num_cls(self) -> int:
        return int(self.config.pooling == "cls")

    def _with_cls(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        return None if mask is None else F.pad(mask.bool(), (self._num_cls, 0), value=True)

    def _cross(self, states: dict[str, list[torch.Tensor]], key_masks: dict[str, torch.Tensor | None]) -> None:
        if self.cross_layers is None or len(states) < 2:
            return
        rna, atac = states["rna"][-1], states["atac"][-1]
        states["rna"][-1] = self.cross_layers["rna"](rna, atac, key_masks["atac"])
        states["atac"][-1] = self.cross_layers["atac"](atac, rna, key_masks["rna"])

    def _pool(self, hidden_states: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, <cls> + N, H) -> (B, H)."""
        if self.config.pooling == "cls":
            return hidden_states[:, 0]
        if self.config.pooling == "mean" and mask is None:
            return hidden_states.mean(1)
        is_counted = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
        if self.config.pooling == "nonzero_mean":
            is_nonzero = is_counted & (values != 0)
            is_counted = torch.where(is_nonzero.any(1, keepdim=True), is_nonzero, is_counted)
        weights = is_counted.to(hidden_states.dtype)  # (B, N)
        return (weights.unsqueeze(1) @ hidden_states).squeeze(1) / weights.sum(1, keepdim=True).clamp(min=1)

    @torch.compiler.disable
    def _count_batch(self) -> None:
        """Count a batch of training, and draw the random features anew where their time is over."""
        interval = self.config.feature_redraw_interval
        if self.config.attention_type != "performer" or interval is None:
            return
        if self._trained_batches is None:
            self._trained_batches = int(self.trained_batches)
        number, rest = divmod(self._trained_batches, interval)
        if number and not rest:
            for module in self.modules():
                if isinstance(module, RandomFeatures):
                    module.redraw(number)
        self._trained_batches += 1
        self.trained_batches.add_(1)

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self._trained_batches = None


class MultiomePerformerForPreTraining(MultiomePerformerPreTrainedModel):
    """The encoder with a head a modality that tells the bin of a value from the joint embedding of its gene."""

    _keys_to_ignore_on_load_unexpected = [_HEAD_OF_CLASSIFICATION]  # noqa: RUF012 (transformers' own form)

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__(config)
        self.performer = MultiomePerformerModel(config)
        size = (config.hidden_size, config.num_value_bins + 1)
        self.rna_head = nn.Linear(*size) if "rna" in config.modalities else None
        self.atac_head = nn.Linear(*size) if "atac" in config.modalities else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        rna_values: torch.Tensor | None = None,
        atac_values: torch.Tensor | None = None,
        rna_mask: torch.Tensor | None = None,
        atac_mask: torch.Tensor | None = None,
        gene_positions: torch.Tensor | None = None,
        rna_labels: torch.Tensor | None = None,
        atac_labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> MultiomePerformerForPreTrainingOutput:
        """Arguments as `MultiomePerformerModel.forward`, and:

        Args:
            rna_labels: (cells, genes) int64, the true value id at masked positions and -100 elsewhere. RNA itself need
                not be given: it is then predicted from ATAC.
            atac_labels: likewise.

        Raises:
            ValueError: also where labels have another shape than the values, or are no value ids.
        """
        labels = {"rna": rna_labels, "atac": atac_labels}
        given = {name: ids for name, ids in labels.items() if ids is not None}
        values = rna_values if rna_values is not None else atac_values
        for name, ids in given.items():
            if values is not None:
                check_value_labels(self.config, name, ids, values.shape)
        outputs = self.performer(
            rna_values=rna_values,
            atac_values=atac_values,
            rna_mask=rna_mask,
            atac_mask=atac_mask,
            gene_positions=gene_positions,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        found: dict[str, torch.Tensor] = {}
        if not given:
            for name in self.config.modalities:
                found[f"{name}_logits"] = self._head(name)(hidden)
        for name, ids in given.items():
            places = (ids.reshape(-1) != -100).nonzero().squeeze(1)  # (L,)
            logits = self._head(name)(hidden.flatten(0, 1)[places])
            targets, cells = ids.reshape(-1)[places].long(), places // ids.shape[1]
            found |= {f"{name}_logits": logits, f"{name}_logits_indices": places}
            found[f"{name}_loss"] = reconstruction_loss(logits, targets, cells=cells, num_cells=len(ids))
        losses = [found[f"{name}_loss"] for name in given]
        return MultiomePerformerForPreTrainingOutput(
            loss=_mean(losses) if losses else None,
            cell_embedding=outputs.cell_embedding,
            hidden_states=outputs.hidden_states,
            **found,
        )

    def _head(self, modality: str) -> nn.Linear:
        head = self.rna_head if modality == "rna" else self.atac_head
        assert head is not None
        return head


class MultiomePerformerForCellTypeClassification(MultiomePerformerPreTrainedModel):
    """The encoder with a head that tells the type of a cell."""

    class_weights: torch.Tensor | None
    _keys_to_ignore_on_load_unexpected = [_HEADS_OF_PRETRAINING]  # noqa: RUF012 (transformers' own form)

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__(config)
        self.performer = MultiomePerformerModel(config)
        self.classifier: ConvolutionalClassifier | LinearClassifier = (
            ConvolutionalClassifier(config)
            if config.classification_head == "convolutional"
            else LinearClassifier(config)
        )
        weights = None if config.class_weights is None else torch.tensor(config.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        rna_values: torch.Tensor | None = None,
        atac_values: torch.Tensor | None = None,
        rna_mask: torch.Tensor | None = None,
        atac_mask: torch.Tensor | None = None,
        gene_positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> MultiomePerformerForCellTypeClassificationOutput:
        """Arguments as `MultiomePerformerModel.forward`, and:

        Args:
            labels: (cells,) int64, places in `config.id2label`; -100 is not scored.
            num_items_in_batch: labels other than -100 of an accumulated step, as the Trainer counts them; the loss of
                this batch is then weighted by its share of them.

        Raises:
            ValueError: also for labels of another shape or out of range, and where the convolutional head does not get
                all genes.
        """
        values = rna_values if rna_values is not None else atac_values
        if labels is not None and values is not None:
            check_cell_types(labels, num_cells=len(values), num_labels=self.classifier.num_labels)
        if values is not None and isinstance(self.classifier, ConvolutionalClassifier):
            self.classifier.require_all_genes(values.shape[-1])
        outputs = self.performer(
            rna_values=rna_values,
            atac_values=atac_values,
            rna_mask=rna_mask,
            atac_mask=atac_mask,
            gene_positions=gene_positions,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        if isinstance(self.classifier, ConvolutionalClassifier):
            seen = _any_seen(rna_values, atac_values, rna_mask, atac_mask)
            logits = self.classifier(outputs.last_hidden_state, seen)
        else:
            logits = self.classifier(outputs.cell_embedding)
        return MultiomePerformerForCellTypeClassificationOutput(
            loss=None
            if labels is None
            else classification_loss(logits, labels, self.class_weights, num_items=num_items_in_batch),
            logits=logits,
            cell_embedding=outputs.cell_embedding,
            hidden_states=outputs.hidden_states,
        )


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else (tensors[0] + tensors[1]) * 0.5


def _any_seen(
    rna_values: torch.Tensor | None,
    atac_values: torch.Tensor | None,
    rna_mask: torch.Tensor | None,
    atac_mask: torch.Tensor | None,
) -> torch.Tensor | None:
    """(B, N) True where some modality has a value; None where no value is missing."""
    masks = [mask for ids, mask in ((rna_values, rna_mask), (atac_values, atac_mask)) if ids is not None]
    seen: torch.Tensor | None = None
    for mask in masks:
        if mask is None:
            return None
        seen = mask.bool() if seen is None else seen | mask.bool()
    return seen


MultiomePerformerModel.register_for_auto_class("AutoModel")
MultiomePerformerForPreTraining.register_for_auto_class("AutoModelForPreTraining")
MultiomePerformerForCellTypeClassification.register_for_auto_class("AutoModelForSequenceClassification")
