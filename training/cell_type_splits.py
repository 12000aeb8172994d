"""Cells to train, validate and test on, as a function of data set, cell name, cell type and seed alone.

So two builds of the same cells, binned in other ways or in another order, are split alike. Places are drawn by SipHash,
as pandas has it, with the seed in its key; few-shot training cells are nested, the 5 of a type among its 10.
"""

from dataclasses import dataclass
from typing import Literal, get_args

SplitBy = Literal["cell", "donor", "batch", "dataset"]


@dataclass(frozen=True)
class CellTypeSplit:
    """What is held out.

    Attributes:
        by: "cell", shares of each type; or "donor", "batch" or "dataset": whole ones.
        test_share, validation_share: of a type's cells, or of the groups; at least one of each where above 0.
        rare_classes: a type with too few cells to have one in each part: "error", or "drop" (and count).

    Raises:
        ValueError: for shares that leave nothing, and choices that there are not.
    """

    by: SplitBy = "cell"
    test_share: float = 0.2
    validation_share: float = 0.1
    rare_classes: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        if self.by not in get_args(SplitBy):
            raise ValueError(f"split_by is {self.by!r}: expected one of {', '.join(get_args(SplitBy))}")
        if self.rare_classes not in ("error", "drop"):
            raise ValueError(f"rare_classes is {self.rare_classes!r}: expected error or drop")
        if not 0 < self.test_share < 1 or not 0 <= self.validation_share < 1:
            raise ValueError(
                f"test_share is {self.test_share} and validation_share {self.validation_share}: expected shares, the "
                "first above 0, both below 1"
            )
        if self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"test_share {self.test_share} and validation_share {self.validation_share} leave no cells to train on"
            )
