"""Wrong input of the multiome Performer is refused, with the argument's name, before any work is done."""

import pytest
import torch

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.multiome_input_checks import check_cell_types, check_inputs, check_value_labels

CONFIG = MultiomePerformerConfig(num_genes=4)
VALUES = torch.tensor([[0, 1, 5, 6], [2, 0, 0, 3]])


def check(config: MultiomePerformerConfig = CONFIG, **inputs: torch.Tensor | None) -> dict[str, torch.Tensor]:
    values, masks = ({name: inputs.get(f"{name}_{kind}") for name in ("rna", "atac")} for kind in ("values", "mask"))
    return check_inputs(config, values, masks=masks, gene_positions=inputs.get("gene_positions"))


def test_what_is_given_comes_back() -> None:
    assert list(check(rna_values=VALUES)) == ["rna"]
    assert list(check(atac_values=VALUES.to(torch.uint8), rna_values=VALUES)) == ["rna", "atac"]
    assert list(check(atac_values=VALUES[:, :2], gene_positions=torch.tensor([3, 0]))) == ["atac"]
    unread = VALUES.masked_fill(VALUES == 3, 200)
    assert list(check(rna_values=unread, rna_mask=unread != 200)) == ["rna"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "neither rna_values nor atac_values is given"),
        ({"rna_values": VALUES[0]}, r"rna_values has shape \(4,\), expected \(cells, genes\)"),
        ({"rna_values": VALUES.float()}, "rna_values is torch.float32: expected integers"),
        ({"rna_values": VALUES, "atac_values": VALUES[:1]}, r"atac_values has shape \(1, 4\), expected \(2, 4\)"),
        ({"rna_values": VALUES + 1}, "rna_values hold 1 to 7, and the model has 5 bins: expected 0 for zero, 1 to 5"),
        ({"atac_values": VALUES - 1}, "atac_values hold -1 to 5"),
        ({"rna_values": VALUES, "atac_mask": VALUES > 0}, "atac_mask is given without atac_values"),
        ({"rna_values": VALUES, "rna_mask": VALUES[:, :2] > 0}, r"rna_mask has shape \(2, 2\), expected \(2, 4\)"),
        ({"rna_values": VALUES[:, :3]}, "3 genes are given, and the model has 4: say with gene_positions which"),
        (
            {"rna_values": VALUES, "gene_positions": torch.arange(3)},
            r"gene_positions has shape \(3,\), expected \(4,\)",
        ),
        ({"rna_values": VALUES, "gene_positions": torch.arange(1, 5)}, "gene_positions hold 1 to 4.*from 0 to 3"),
        ({"rna_values": VALUES, "gene_positions": torch.ones(4)}, "gene_positions is torch.float32"),
    ],
)
def test_wrong_input_is_named(inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(**inputs)


def test_a_modality_that_the_model_lacks() -> None:
    config = MultiomePerformerConfig(num_genes=4, modalities=["rna"])
    with pytest.raises(ValueError, match=r"atac_values is given, and the model has \['rna'\] only"):
        check(config, atac_values=VALUES)
    with pytest.raises(ValueError, match=r"atac_labels is given, and the model has \['rna'\] only"):
        check_value_labels(config, "atac", VALUES, VALUES.shape)


def test_wrong_labels_are_named() -> None:
    check_value_labels(CONFIG, "rna", VALUES.masked_fill(VALUES == 6, -100), VALUES.shape)
    with pytest.raises(ValueError, match=r"rna_labels hold \[6\]: expected value ids from 0 to 5, and -100"):
        check_value_labels(CONFIG, "rna", VALUES, VALUES.shape)
    with pytest.raises(ValueError, match=r"atac_labels has shape \(2, 4\), expected \(2, 3\)"):
        check_value_labels(CONFIG, "atac", VALUES, torch.Size((2, 3)))
    check_cell_types(torch.tensor([0, 2, -100]), num_cells=3, num_labels=3)
    with pytest.raises(ValueError, match=r"labels hold \[-1, 3\]: expected places from 0 to 2 in config.id2label"):
        check_cell_types(torch.tensor([3, -1]), num_cells=2, num_labels=3)
    with pytest.raises(ValueError, match=r"labels has shape \(2, 4\), expected \(2,\)"):
        check_cell_types(VALUES, num_cells=2, num_labels=3)
    with pytest.raises(ValueError, match=r"labels is torch.float32"):
        check_cell_types(torch.ones(2), num_cells=2, num_labels=3)
