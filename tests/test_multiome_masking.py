"""Masks of cells: shares, labels, missing modalities, orders of genes, and what the masks depend on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from omics_transformers.training.modality_sampler import Kind
from omics_transformers.training.multiome_masking import CellBatch, MultiomeMaskingCollator

BINS = numpy_strategies.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 30)), elements=st.integers(0, 5))
LARGE = np.random.default_rng(0).integers(0, 6, (40, 500)).astype(np.uint8)


def batch_of(bins: np.ndarray, kind: Kind = "rna", **changes: Any) -> CellBatch:
    values = {name: bins for name in ("rna", "atac") if kind in (name, "both")}
    return CellBatch(np.arange(len(bins)) + 10, kind, values, **changes)  # type: ignore[arg-type]


@given(BINS, st.floats(0.01, 1.0), st.floats(0, 1), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 4))
def test_only_labelled_values_are_changed(
    bins: np.ndarray, mask_share: float, replaced: float, zero_share: float, seed: int
) -> None:
    collator = MultiomeMaskingCollator(6, mask_share, replaced, zero_share, seed=seed)
    made = collator(batch_of(bins))
    assert made.keys() == {"rna_values", "rna_labels"}
    values, labels = made["rna_values"].numpy(), made["rna_labels"].numpy()
    assert (made["rna_values"].dtype, made["rna_labels"].dtype) == (torch.uint8, torch.int64)
    is_label = labels != -100
    assert np.array_equal(labels[is_label], bins[is_label])
    assert np.array_equal(values[~is_label], bins[~is_label])
    assert np.all((values == bins) | (values == 6))
    assert np.array_equal((is_label & (bins > 0)).any(axis=1), (bins > 0).any(axis=1))  # one in each cell that has any
    if zero_share in (0.0, 1.0):
        assert np.all(is_label[bins == 0] == (zero_share == 1.0))
    if mask_share == 1.0:
        assert is_label[bins > 0].all()


def test_shares_are_those_asked_for() -> None:
    made = MultiomeMaskingCollator(6, zero_share=0.05)(batch_of(LARGE))
    values, labels = made["rna_values"].numpy(), made["rna_labels"].numpy()
    is_label = labels != -100
    assert is_label[LARGE > 0].mean() == pytest.approx(0.15, abs=0.012)  # 16,700 values: four deviations
    assert is_label[LARGE == 0].mean() == pytest.approx(0.05, abs=0.016)
    assert (values[is_label] == 6).mean() == pytest.approx(0.9, abs=0.025)
    for value in range(1, 6):  # whatever the bin
        assert is_label[value == LARGE].mean() == pytest.approx(0.15, abs=0.025)


def test_masks_depend_on_cell_step_epoch_and_seed_not_on_batch_or_order() -> None:
    collator = MultiomeMaskingCollator(6, zero_share=0.1)
    whole = collator(batch_of(LARGE))["rna_labels"]
    part = CellBatch(np.array([12, 15]), "rna", {"rna": LARGE[[2, 5]]})
    assert torch.equal(collator(part)["rna_labels"], whole[[2, 5]])
    for other in (
        replace(collator, seed=1)(batch_of(LARGE)),
        collator(batch_of(LARGE, epoch=1)),
        collator(batch_of(LARGE, step=1)),
    ):
        assert not torch.equal(other["rna_labels"], whole)
    both = collator(batch_of(LARGE, "both"))
    assert torch.equal(both["rna_labels"], whole) and not torch.equal(both["atac_labels"], whole)
    shuffled = replace(collator, feature_order="every_step")(batch_of(LARGE))
    back = torch.full_like(whole, -1).scatter(1, shuffled["gene_positions"], shuffled["rna_labels"])
    assert torch.equal(back, whole)


def test_orders_of_genes() -> None:
    fixed = MultiomeMaskingCollator(6)
    assert "gene_positions" not in fixed(batch_of(LARGE))
    found = {}
    for order in ("per_cell", "every_step"):
        collator = MultiomeMaskingCollator(6, feature_order=order)
        found[order] = [collator(batch_of(LARGE, epoch=epoch, step=step)) for epoch, step in ((0, 0), (0, 1), (2, 0))]
        for made in found[order]:
            positions = made["gene_positions"].numpy()
            assert np.array_equal(np.sort(positions, axis=1), np.tile(np.arange(500), (40, 1)))
            is_shown = made["rna_values"] != 6
            own = torch.from_numpy(np.take_along_axis(LARGE, positions, axis=1))
            assert torch.equal(made["rna_values"][is_shown], own[is_shown])
            assert len(np.unique(positions, axis=0)) == 40
    orders = [made["gene_positions"] for made in found["per_cell"]]
    assert all(torch.equal(other, orders[0]) for other in orders)
    steps = torch.stack([made["gene_positions"] for made in found["every_step"]])
    assert len(steps.unique(dim=0)) == 3


def test_genes_of_a_step_are_drawn_for_all_its_cells() -> None:
    collator = MultiomeMaskingCollator(6, genes_per_step=50)
    made = collator(batch_of(LARGE, "both", step=3))
    positions = made["gene_positions"]
    assert positions.shape == (50,) and torch.equal(positions, positions.unique())  # sorted, each once
    is_shown = made["atac_values"] != 6
    assert torch.equal(made["atac_values"][is_shown], torch.from_numpy(LARGE)[:, positions][is_shown])
    assert not torch.equal(collator(batch_of(LARGE, "both", step=4))["gene_positions"], positions)
    other_cells = CellBatch(np.arange(40), "both", {"rna": LARGE, "atac": LARGE}, step=3)
    assert torch.equal(collator(other_cells)["gene_positions"], positions)
    shuffled = replace(collator, feature_order="per_cell")(batch_of(LARGE, "both", step=3))["gene_positions"]
    assert torch.equal(shuffled.sort(dim=1).values, positions.expand(40, 50))
    assert "gene_positions" not in replace(collator, genes_per_step=500)(batch_of(LARGE))


def test_a_missing_modality_is_labels_only_for_the_whole_batch() -> None:
    collator = MultiomeMaskingCollator(6, missing_modality_share=0.5)
    kinds = []
    for step in range(400):
        made = collator(batch_of(LARGE[:2], "both", step=step))
        kinds.append(tuple(sorted(made)))
        other = CellBatch(np.array([900]), "both", {"rna": LARGE[:1], "atac": LARGE[:1]}, step=step)
        assert collator(other).keys() == made.keys()  # the same on every process
    whole = ("atac_labels", "atac_values", "rna_labels", "rna_values")
    shares = {kind: kinds.count(kind) / 400 for kind in set(kinds)}
    assert shares.keys() == {whole, ("atac_labels", "rna_values"), ("atac_values", "rna_labels")}
    assert shares[whole] == pytest.approx(0.5, abs=0.1) and shares["atac_labels", "rna_values"] > 0.17
    assert "rna_values" in collator(batch_of(LARGE, "rna", step=kinds.index(("atac_values", "rna_labels"))))
    assert collator.for_evaluation().missing_modality_share == 0


def test_labels_of_a_missing_modality() -> None:
    bins = np.where(np.random.default_rng(2).random((30, 1000)) < 0.1, 3, 0).astype(np.uint8)
    batch = batch_of(bins, "both", missing="atac", counted_as=2)
    made = MultiomeMaskingCollator(6)(batch)
    assert made.keys() == {"rna_values", "atac_labels", "counted_as"} and made["counted_as"].tolist() == [2]
    assert torch.equal(made["rna_values"], torch.from_numpy(bins))  # nothing is masked in what is given
    labels = made["atac_labels"].numpy()
    assert np.all(labels[bins > 0] == 3)
    assert (labels == 0).sum() / (bins > 0).sum() == pytest.approx(1, abs=0.08)
    everything = MultiomeMaskingCollator(6, missing_labels="all")(batch)["atac_labels"]
    assert np.array_equal(everything, bins)


@pytest.mark.parametrize("is_missing", [False, True])
@pytest.mark.parametrize("missing_labels", ["balanced", "all"])
def test_rates_of_labels_are_those_that_are_seen(is_missing: bool, missing_labels: str) -> None:
    bins = np.where(np.random.default_rng(2).random((60, 1000)) < 0.3, 2, 0).astype(np.uint8)
    collator = MultiomeMaskingCollator(6, zero_share=0.1, missing_labels=missing_labels)  # type: ignore[arg-type]
    counts = np.stack([(bins == value).sum(axis=0) for value in range(6)], axis=1)
    rates = collator.label_rates(counts, is_missing=is_missing)
    labels = collator(batch_of(bins, "both", missing="rna" if is_missing else None))["rna_labels"].numpy()
    for value in (0, 2):
        assert (labels[bins == value] != -100).mean() == pytest.approx(rates[value], abs=0.02)


def test_cells_without_values_have_no_labels() -> None:
    made = MultiomeMaskingCollator(6)(batch_of(np.zeros((2, 9), dtype=np.uint8)))
    assert torch.all(made["rna_labels"] == -100) and not made["rna_values"].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_share": 0.0}, r"mask_share is 0\.0: the share of masked values is above 0"),
        ({"mask_share": 1.2}, r"mask_share is 1\.2"),
        ({"zero_share": -0.1}, r"zero_share is -0\.1: expected a share, 0 to 1"),
        ({"mask_replace_share": 2.0}, "mask_replace_share is 2"),
        ({"missing_modality_share": 1.5}, r"missing_modality_share is 1\.5"),
        ({"genes_per_step": 0}, "genes_per_step is 0: expected a positive number"),
    ],
)
def test_shares_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiomeMaskingCollator(6, **changes)
