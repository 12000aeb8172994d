"""The multiome Performer: cells with RNA, ATAC or both to embeddings of genes and of the cell.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", chapter 4: a path a modality, the mean of both
where a cell has both, and reconstruction of masked values from that joint embedding. Blocks are those of
performer-pytorch: layer norm in front, residual around. Beyond it: missing values, subsets and orders of genes, exact
attention in the same weights, a joint embedding by cross-attention, and imputation of a modality that is not given.
Shapes: B cells, N genes given, H hidden, A heads, D size of a head, L labelled values.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_multiome_performer import MODALITIES, MultiomePerformerConfig
from .multiome_embeddings import GeneFeatures, MultiomeEmbeddings
from .multiome_heads import ConvolutionalClassifier, LinearClassifier, reconstruction_loss
from .performer_attention import RandomFeatures, performer_attention


@dataclass
class MultiomePerformerOutput(ModelOutput):
    """What `MultiomePerformerModel` returns.

    Attributes:
        last_hidden_state: (cells, genes, hidden); of paired cells the mean of both paths.
        cell_embedding: (cells, hidden); of paired cells the mean of the next two.
        rna_cell_embedding: (cells, hidden) of the RNA path; None where no RNA is given.
        atac_cell_embedding: (cells, hidden) of the ATAC path; None where no ATAC is given.
        hidden_states: embeddings and each layer's output, (cells, genes, hidden) each, the last one normed; of paired
            cells the means of both paths.
    """

    last_hidden_state: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    rna_cell_embedding: torch.Tensor | None = None
    atac_cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MultiomePerformerForPreTrainingOutput(ModelOutput):
    """What `MultiomePerformerForPreTraining` returns.

    Attributes:
        loss: mean of the losses of the modalities that have labels, scalar; only with labels.
        rna_loss: cross-entropy, averaged over the labelled values of a cell, then over cells; only with RNA labels.
        atac_loss: likewise.
        rna_logits: (cells, genes, value bins + 1) without any labels; (labelled, value bins + 1) with RNA labels; None
            with labels of ATAC only.
        atac_logits: likewise.
        rna_logits_indices: (labelled,) int64, each row's place in the flattened (cells x genes); only with RNA labels.
        atac_logits_indices: likewise.
        cell_embedding: (cells, hidden).
        hidden_states: as of `MultiomePerformerOutput`.
    """

    loss: torch.Tensor | None = None
    rna_loss: torch.Tensor | None = None
    atac_loss: torch.Tensor | None = None
    rna_logits: torch.Tensor | None = None
    atac_logits: torch.Tensor | None = None
    rna_logits_indices: torch.Tensor | None = None
    atac_logits_indices: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MultiomePerformerForCellTypeClassificationOutput(ModelOutput):
    """What `MultiomePerformerForCellTypeClassification` returns.

    Attributes:
        loss: cross-entropy, scalar; only with labels.
        logits: (cells, num_labels).
        cell_embedding: (cells, hidden).
        hidden_states: as of `MultiomePerformerOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cell_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class MultiomePerformerAttention(nn.Module):
    """Attention of all genes to all genes, approximated or exact by `config.attention_type`.

    The random features are kept under exact attention too, so that a checkpoint is the same for both.
    """

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        assert config.num_random_features is not None
        width = config.num_attention_heads * config.head_dim
        self.is_exact = config.attention_type == "sdpa"
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)
        self.output = nn.Linear(width, config.hidden_size)
        self.random_features = RandomFeatures(
            config.num_random_features, config.head_dim, seed=config.feature_seed, place=place
        )

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor, key_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, N, H) attends to context (B, K, H) where key_mask (B, K) is True -> (B, N, H)."""
        query, key, value = (
            states.unflatten(-1, (self.num_heads, -1))
            for states in (self.query(hidden_states), self.key(context), self.value(context))
        )  # (B, N, A, D)
        if self.is_exact:
            attended = F.scaled_dot_product_attention(
                query.transpose(1, 2),
                key.transpose(1, 2),
                value.transpose(1, 2),
                attn_mask=None if key_mask is None else key_mask[:, None, None],
            ).transpose(1, 2)
        else:
            attended = performer_attention(query, key, value, self.random_features.projection, key_mask)
        return self.output(attended.flatten(2))


class MultiomePerformerFeedForward(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__()
        self.input = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = nn.GELU() if config.hidden_act == "gelu" else nn.ReLU()
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.output(self.activation(self.input(hidden_states)))


class MultiomePerformerLayer(GradientCheckpointingLayer):
    """Layer norm before each half, and the residual around it."""

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MultiomePerformerAttention(config, place)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = MultiomePerformerFeedForward(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, key_mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.attention_norm(hidden_states)
        hidden_states = hidden_states + self.dropout(self.attention(normed, normed, key_mask))
        return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states)))


class MultiomePerformerCrossLayer(GradientCheckpointingLayer):
    """A path attends to the other's output, with the residual around it."""

    def __init__(self, config: MultiomePerformerConfig, place: tuple[int, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.context_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MultiomePerformerAttention(config, place)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor | None
    ) -> torch.Tensor:
        attended = self.attention(self.norm(hidden_states), self.context_norm(context), context_mask)
        return hidden_states + self.dropout(attended)


class MultiomePerformerPath(nn.Module):
    """The encoder of one modality: its own gene tokens, values and blocks."""

    def __init__(self, config: MultiomePerformerConfig, modality: str) -> None:
        super().__init__()
        number = MODALITIES.index(modality)
        self.embeddings = MultiomeEmbeddings(config)
        self.cls_token = nn.Parameter(torch.empty(config.hidden_size)) if config.pooling == "cls" else None
        self.layers = nn.ModuleList(
            MultiomePerformerLayer(config, (number, layer)) for layer in range(config.num_hidden_layers)
        )
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        gene_positions: torch.Tensor | None,
        gene_features: torch.Tensor | None,
    ) -> list[torch.Tensor]:
        """(B, N) values, and (B, N) True where they are not missing -> embeddings and outputs of layers, (B, N, H).

        With pooling by <cls> its token comes first, here and in a mask that `with_cls` makes.
        """
        hidden_states = self.embeddings(values, gene_positions, gene_features)
        if self.cls_token is not None:
            first = self.cls_token.to(hidden_states.dtype).expand(len(hidden_states), 1, -1)
            hidden_states = torch.cat([first, hidden_states], dim=1)
        states = [hidden_states]
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
            states.append(hidden_states)
        states[-1] = self.final_norm(hidden_states)
        return states


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
        table = self.base_model.gene_features
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
        self._require_path(modality, f"set_gene_embeddings(..., {modality!r})")
        embeddings = self.base_model.paths[modality].embeddings.gene_embeddings
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

    def _require_path(self, modality: str, what: str) -> None:
        if modality not in self.config.modalities:
            raise ValueError(
                f"{what} is given, and the model has {self.config.modalities} only: leave it out, or make the model with "
                f"that modality in config.modalities"
            )


class MultiomePerformerModel(MultiomePerformerPreTrainedModel):
    """The encoder.

    In training, random features are drawn anew after every `config.feature_redraw_interval` batches; the buffer
    `trained_batches` counts them, so that a resumed run goes on with the same features, and all processes have the same.
    """

    trained_batches: torch.Tensor
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 (transformers' own form)
        r"^(rna|atac)_head\.",
        r"^classifier\.",
        r"^class_weights$",
    ]
    _keys_to_ignore_on_load_missing = [r"random_features\.projection$", r"trained_batches$"]  # noqa: RUF012

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
            rna_mask: (cells, genes) bool, False where a value is missing: what stands there is not read, no gene attends
                to it, and it has no part in the cell embedding. Its own hidden state is that of a masked value. None:
                nothing is missing.
            atac_mask: (cells, genes) likewise.
            gene_positions: (genes,) or (cells, genes) int64, which of the model's genes each column is; 0, 1, 2, ...
                where None.
            output_hidden_states: also return the embeddings and each layer's output.

        Raises:
            ValueError: where no modality is given, or one that the model lacks, shapes differ, or values or positions
                are out of range.
        """
        values = self._given_values(rna_values, atac_values)
        masks = {"rna": rna_mask, "atac": atac_mask}
        self._check(values, masks, gene_positions)
        if self.training:
            self._count_batch()
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        features = None if self.gene_features is None else self.gene_features.require_set()
        key_masks = {name: self._with_cls(masks[name]) for name in values}
        states: dict[str, list[torch.Tensor]] = {}
        for name, ids in values.items():
            mask = masks[name]
            ids = ids if mask is None else ids.masked_fill(~mask.bool(), self.config.mask_value_id)
            states[name] = self.paths[name](ids, key_masks[name], gene_positions, features)
        self._cross(states, key_masks)
        cells = {name: self._pool(states[name][-1], values[name], masks[name]) for name in values}
        return MultiomePerformerOutput(
            last_hidden_state=_mean([path[-1] for path in states.values()])[:, self._num_cls :],
            cell_embedding=_mean(list(cells.values())),
            rna_cell_embedding=cells.get("rna"),
            atac_cell_embedding=cells.get("atac"),
            hidden_states=tuple(_mean(list(level))[:, self._num_cls :] for level in zip(*states.values(), strict=True))
            if output_hidden_states
            else None,
        )

    @property
    def _num_cls(self) -> int:
        return int(self.config.pooling == "cls")

    def _given_values(
        self, rna_values: torch.Tensor | None, atac_values: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        values = {"rna": rna_values, "atac": atac_values}
        given = {name: ids for name, ids in values.items() if ids is not None}
        if not given:
            raise ValueError("neither rna_values nor atac_values is given: the model needs one of them, or both")
        for name in given:
            self._require_path(name, f"{name}_values")
        return given

    def _check(
        self,
        values: dict[str, torch.Tensor],
        masks: dict[str, torch.Tensor | None],
        gene_positions: torch.Tensor | None,
    ) -> None:
        first = next(iter(values))
        shape = values[first].shape
        for name, ids in values.items():
            if ids.dim() != 2:
                raise ValueError(
                    f"{name}_values has shape {tuple(ids.shape)}, expected (cells, genes); one cell has a first axis of 1"
                )
            _check_integers(f"{name}_values", ids)
            _check_shape(f"{name}_values", ids, shape, f"{first}_values")
        for name, mask in masks.items():
            if mask is not None and name not in values:
                raise ValueError(f"{name}_mask is given without {name}_values: pass both, or neither")
            _check_shape(f"{name}_mask", mask, shape, f"{first}_values")
        self._check_positions(gene_positions, shape)
        if torch.compiler.is_compiling():
            return
        for name, ids in values.items():
            seen = ids if masks[name] is None else ids[masks[name].bool()]
            if seen.numel() and not 0 <= int(seen.min()) <= int(seen.max()) <= self.config.mask_value_id:
                raise ValueError(
                    f"{name}_values hold {int(seen.min())} to {int(seen.max())}, and the model has "
                    f"{self.config.num_value_bins} bins: expected 0 for zero, 1 to {self.config.num_value_bins}, and "
                    f"{self.config.mask_value_id} for masked values; bin counts with the model's own feature extractor"
                )

    def _check_positions(self, gene_positions: torch.Tensor | None, shape: torch.Size) -> None:
        number = self.config.num_genes
        if gene_positions is None:
            if shape[1] != number:
                raise ValueError(
                    f"{shape[1]:,} genes are given, and the model has {number:,}: say with gene_positions which ones "
                    "they are"
                )
            return
        if gene_positions.shape not in (shape, shape[1:]):
            raise ValueError(
                f"gene_positions has shape {tuple(gene_positions.shape)}, expected {tuple(shape[1:])} (genes,) or "
                f"{tuple(shape)} (cells, genes) as the values have"
            )
        _check_integers("gene_positions", gene_positions)
        if torch.compiler.is_compiling() or not gene_positions.numel():
            return
        lowest, highest = int(gene_positions.min()), int(gene_positions.max())
        if lowest < 0 or highest >= number:
            raise ValueError(
                f"gene_positions hold {lowest:,} to {highest:,}: expected places from 0 to {number - 1:,} of the model's "
                "genes"
            )

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

    _keys_to_ignore_on_load_unexpected = [r"^classifier\.", r"^class_weights$"]  # noqa: RUF012 (HF's form)
    _keys_to_ignore_on_load_missing = [r"random_features\.projection$", r"trained_batches$"]  # noqa: RUF012

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
            self._require_path(name, f"{name}_labels")
            if values is not None:
                self._check_labels(f"{name}_labels", ids, values.shape)
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
            found[f"{name}_loss"] = reconstruction_loss(logits, targets, cells, len(ids))
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

    def _check_labels(self, name: str, labels: torch.Tensor, shape: torch.Size) -> None:
        _check_shape(name, labels, shape, "the values")
        _check_integers(name, labels)
        if torch.compiler.is_compiling():
            return
        is_wrong = (labels != -100) & ((labels < 0) | (labels > self.config.num_value_bins))
        if bool(is_wrong.any()):
            raise ValueError(
                f"{name} hold {labels[is_wrong].unique().tolist()[:5]}: expected value ids from 0 to "
                f"{self.config.num_value_bins}, and -100 where nothing is to be predicted"
            )


class MultiomePerformerForCellTypeClassification(MultiomePerformerPreTrainedModel):
    """The encoder with a head that tells the type of a cell."""

    class_weights: torch.Tensor | None
    _keys_to_ignore_on_load_unexpected = [r"^(rna|atac)_head\."]  # noqa: RUF012 (transformers' own form)
    _keys_to_ignore_on_load_missing = [  # noqa: RUF012
        r"random_features\.projection$",
        r"trained_batches$",
        r"^class_weights$",
    ]

    def __init__(self, config: MultiomePerformerConfig) -> None:
        super().__init__(config)
        self.performer = MultiomePerformerModel(config)
        self.classifier: ConvolutionalClassifier | LinearClassifier = (
            ConvolutionalClassifier(config)
            if config.classification_head == "convolutional"
            else LinearClassifier(config)
        )
        weights = None if config.class_weights is None else torch.tensor(config.class_weights)
        self.register_buffer("class_weights", weights)
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
            self._check_labels(labels, len(values))
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
            loss=None if labels is None else self._loss(logits, labels, num_items_in_batch),
            logits=logits,
            cell_embedding=outputs.cell_embedding,
            hidden_states=outputs.hidden_states,
        )

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        is_scored = labels != -100
        weights = None if self.class_weights is None else self.class_weights.float()
        total = F.cross_entropy(logits.float(), labels.long(), weight=weights, reduction="sum")
        if weights is None:
            divisor = is_scored.sum()
        else:
            divisor = weights[labels.masked_fill(~is_scored, 0).long()].masked_fill(~is_scored, 0.0).sum()
        loss = total / torch.where(divisor > 0, divisor, torch.ones_like(divisor))
        return loss if num_items_in_batch is None else loss * is_scored.sum() / num_items_in_batch

    def _check_labels(self, labels: torch.Tensor, num_cells: int) -> None:
        number = self.config.num_labels
        if labels.shape != (num_cells,):
            raise ValueError(f"labels has shape {tuple(labels.shape)}, expected ({num_cells},) (cells,)")
        _check_integers("labels", labels)
        if torch.compiler.is_compiling():
            return
        is_wrong = (labels != -100) & ((labels < 0) | (labels >= number))
        if bool(is_wrong.any()):
            raise ValueError(
                f"labels hold {labels[is_wrong].unique().tolist()[:5]}: expected places from 0 to {number - 1} in "
                "config.id2label, and -100 for cells without a type"
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


def _check_shape(name: str, found: torch.Tensor | None, expected: torch.Size, other: str) -> None:
    if found is not None and found.shape != expected:
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected {tuple(expected)} (cells, genes) as {other}")


def _check_integers(name: str, found: torch.Tensor) -> None:
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"{name} is {found.dtype}: expected integers")


MultiomePerformerModel.register_for_auto_class("AutoModel")
MultiomePerformerForPreTraining.register_for_auto_class("AutoModelForPreTraining")
MultiomePerformerForCellTypeClassification.register_for_auto_class("AutoModelForSequenceClassification")
