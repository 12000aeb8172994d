"""Figures of the studies: PNGs that depend on what is drawn, and on nothing else."""

import numpy as np
import pandas as pd
import pytest

from omics_transformers.training.multiome_studies import summary_table
from omics_transformers.training.multiome_study_figures import bins_figure, curves_figure, scores_figure

PNG = b"\x89PNG"


def curves(last: float) -> pd.DataFrame:
    rows = [
        {"method": method, "seed": seed, "step": step, "training_accuracy": step / 4, "validation_accuracy": last}
        for method in ("fixed", "per_cell")
        for seed in (0, 1)
        for step in range(1, 4 - seed)
    ]
    return pd.DataFrame(rows)


def results(cells_per_type: tuple[int | None, ...], best: float) -> pd.DataFrame:
    rows = [
        {"method": method, "modality": "rna", "cells_per_type": number, "seed": seed, "mcc": mcc}
        for number in cells_per_type
        for method, mcc in (("logistic", 0.5), ("model", best))
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(**dict.fromkeys(("accuracy", "weighted_f1", "macro_f1"), table["mcc"]))


def test_curves() -> None:
    first = curves_figure(curves(0.4))
    assert first.startswith(PNG) and first == curves_figure(curves(0.4)) != curves_figure(curves(0.6))


def test_bins() -> None:
    def occupancy(first: float) -> pd.DataFrame:
        share = [np.nan, first, 1 - first]
        return pd.concat(
            pd.DataFrame({"strategy": strategy, "modality": modality, "bin": range(3), "share_of_nonzero": share})
            for strategy in ("quartile", "absolute")
            for modality in ("rna", "atac")
        )

    first = bins_figure(occupancy(0.3))
    assert first.startswith(PNG) and first == bins_figure(occupancy(0.3)) != bins_figure(occupancy(0.5))


@pytest.mark.parametrize("cells_per_type", [(None,), (10, None)])
def test_scores(cells_per_type: tuple[int | None, ...]) -> None:
    def drawn(best: float) -> bytes:
        table = results(cells_per_type, best)
        return scores_figure(summary_table(table, "logistic"), table)

    assert drawn(0.7).startswith(PNG) and drawn(0.7) == drawn(0.7) != drawn(0.9)
