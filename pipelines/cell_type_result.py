"""What cell-type classification found: a table of cells, probabilities, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .aligned_cells import MultiomeCells
from .cell_type_agreement import UNKNOWN
from .cell_type_figures import draw_confidence, draw_confusion

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CellTypeResult:
    """Types of cells.

    Attributes:
        table: a row a cell, index = barcodes, in the input's order: cell_type ("unknown" below the threshold),
            confidence (probability of the best type), entropy (nats), is_unknown, best_type (whatever the threshold),
            second_type, second_confidence.
        probabilities: (cells, types) float32; NaN for cells without any count.
        cell_types: names of the types.
        cells: what was read.
        summary: how it was made, counts, and the comparison with labels.
        confusion: cells by label and predicted type; None without labels.
    """

    table: "pd.DataFrame"
    probabilities: np.ndarray
    cell_types: Sequence[str]
    cells: MultiomeCells
    summary: Mapping[str, Any]
    confusion: "pd.DataFrame | None" = None

    def anndata(self, *, inplace: bool = False, column: str = "cell_type") -> Any:
        """The AnnData (of a pair, the RNA's) with `{column}_predicted` and `{column}_confidence` in `obs`.

        Args:
            inplace: write into the AnnData that was given; cells of it that were not read have no value there. Else
                into a copy of the cells that were read.
            column: what the names of the columns begin with.
        """
        import pandas as pd

        target = self.cells.annotated(inplace=inplace)
        found = self.table.reindex(target.obs_names)
        names = [*self.cell_types, *([] if UNKNOWN in self.cell_types else [UNKNOWN])]
        target.obs[f"{column}_predicted"] = pd.Categorical(found["cell_type"], categories=names)
        target.obs[f"{column}_confidence"] = found["confidence"].to_numpy(np.float32)
        return target

    def figures(self) -> dict[str, bytes]:
        """Name -> PNG bytes: confidence, and confusion where there are labels."""
        confidence = {"confidence": draw_confidence(self.table["confidence"], self.summary["unknown_threshold"])}
        return confidence if self.confusion is None else confidence | {"confusion": draw_confusion(self.confusion)}


def cell_type_table(
    probabilities: np.ndarray, cell_types: Sequence[str], barcodes: "pd.Index", unknown_threshold: float
) -> "pd.DataFrame":
    """The table of `CellTypeResult`, from probabilities (cells, types) with rows of NaN where the model did not run."""
    import pandas as pd

    is_run = ~np.isnan(probabilities).any(axis=1)
    filled = np.where(is_run[:, None], probabilities, 0.0)
    order = np.argsort(-filled, axis=1, kind="stable")[:, :2]
    best, second = order[:, 0], order[:, min(1, order.shape[1] - 1)]
    rows = np.arange(len(filled))
    confidence = np.where(is_run, filled[rows, best], np.nan).astype(np.float32)
    logs = np.log(np.where(filled > 0, filled, 1.0))
    is_unknown = ~(confidence >= unknown_threshold)  # NaN too
    names = np.array(list(cell_types), dtype=object)
    has_second = is_run & (len(names) > 1)
    return pd.DataFrame(
        {
            "cell_type": np.where(is_unknown, UNKNOWN, names[best]),
            "confidence": confidence,
            "entropy": np.where(is_run, np.maximum(-(filled * logs).sum(axis=1), 0), np.nan).astype(np.float32),
            "is_unknown": is_unknown,
            "best_type": pd.Series(names[best], dtype=object).where(is_run, None).to_numpy(),
            "second_type": pd.Series(names[second], dtype=object).where(has_second, None).to_numpy(),
            "second_confidence": np.where(has_second, filled[rows, second], np.nan).astype(np.float32),
        },
        index=barcodes,
    )
