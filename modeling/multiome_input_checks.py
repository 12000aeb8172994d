"""Checks of what the multiome Performer is given: each error names the argument, what was found and what was expected.

Compiled models skip the checks that read numbers.
"""

import torch

from .configuration_multiome_performer import MultiomePerformerConfig


def check_inputs(
    config: MultiomePerformerConfig,
    values: dict[str, torch.Tensor | None],
    *,
    masks: dict[str, torch.Tensor | None],
    gene_positions: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """The values that are given, by modality; see `MultiomePerformerModel.forward` for what each must be."""
    given = {name: ids for name, ids in values.items() if ids is not None}
    if not given:
        raise ValueError("neither rna_values nor atac_values is given: the model needs one of them, or both")
    first, shape = next((name, ids.shape) for name, ids in given.items())
    for name, ids in given.items():
        require_modality(config, name, f"{name}_values")
        if ids.dim() != 2:
            raise ValueError(
                f"{name}_values has shape {tuple(ids.shape)}, expected (cells, genes); one cell has a first axis of 1"
            )
        _check_integers(f"{name}_values", ids)
        _check_shape(f"{name}_values", ids, shape, f"{first}_values has")
    for name, mask in masks.items():
        if mask is None:
            continue
        if name not in given:
            raise ValueError(f"{name}_mask is given without {name}_values: pass both, or neither")
        _check_shape(f"{name}_mask", mask, shape, f"{first}_values has")
    _check_positions(config, gene_positions, shape)
    for name, ids in given.items():
        _check_values(config, name, ids, masks[name])
    return given


def require_modality(config: MultiomePerformerConfig, modality: str, what: str) -> None:
    """Raise ValueError where the model has no path of that modality."""
    if modality not in config.modalities:
        raise ValueError(
            f"{what} is given, and the model has {config.modalities} only: leave it out, or make the model with that "
            "modality in config.modalities"
        )


def check_value_labels(config: MultiomePerformerConfig, modality: str, labels: torch.Tensor, shape: torch.Size) -> None:
    """Raise ValueError where labels of masked values do not have that shape, or are neither value ids nor -100."""
    name = f"{modality}_labels"
    require_modality(config, modality, name)
    _check_shape(name, labels, shape, "the values have")
    _check_integers(name, labels)
    if torch.compiler.is_compiling():
        return
    is_wrong = (labels != -100) & ((labels < 0) | (labels > config.num_value_bins))
    if bool(is_wrong.any()):
        raise ValueError(
            f"{name} hold {labels[is_wrong].unique().tolist()[:5]}: expected value ids from 0 to "
            f"{config.num_value_bins}, and -100 where nothing is to be predicted"
        )


def check_cell_types(labels: torch.Tensor, *, num_cells: int, num_labels: int) -> None:
    """Raise ValueError where labels are not (cells,) places in `config.id2label`, or -100."""
    if labels.shape != (num_cells,):
        raise ValueError(f"labels has shape {tuple(labels.shape)}, expected ({num_cells},): one cell type a cell")
    _check_integers("labels", labels)
    if torch.compiler.is_compiling():
        return
    is_wrong = (labels != -100) & ((labels < 0) | (labels >= num_labels))
    if bool(is_wrong.any()):
        raise ValueError(
            f"labels hold {labels[is_wrong].unique().tolist()[:5]}: expected places from 0 to {num_labels - 1} in "
            "config.id2label, and -100 for cells without a type"
        )


def _check_values(config: MultiomePerformerConfig, name: str, values: torch.Tensor, mask: torch.Tensor | None) -> None:
    if torch.compiler.is_compiling():
        return
    seen = values if mask is None else values[mask.bool()]
    if not seen.numel():
        return
    lowest, highest = (int(number) for number in seen.aminmax())
    if lowest < 0 or highest > config.mask_value_id:
        raise ValueError(
            f"{name}_values hold {lowest} to {highest}, and the model has {config.num_value_bins} bins: expected 0 for "
            f"zero, 1 to {config.num_value_bins}, and {config.mask_value_id} for masked values; bin counts with the "
            "model's own feature extractor"
        )


def _check_positions(config: MultiomePerformerConfig, gene_positions: torch.Tensor | None, shape: torch.Size) -> None:
    number = config.num_genes
    if gene_positions is None:
        if shape[1] != number:
            raise ValueError(
                f"{shape[1]:,} genes are given, and the model has {number:,}: say with gene_positions which ones they "
                "are"
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
    lowest, highest = (int(place) for place in gene_positions.aminmax())
    if lowest < 0 or highest >= number:
        raise ValueError(
            f"gene_positions hold {lowest:,} to {highest:,}: expected places from 0 to {number - 1:,} of the model's "
            "genes"
        )


def _check_shape(name: str, found: torch.Tensor, expected: torch.Size, other: str) -> None:
    if found.shape != expected:
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected {tuple(expected)} (cells, genes) as {other}")


def _check_integers(name: str, found: torch.Tensor) -> None:
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"{name} is {found.dtype}: expected integers")
