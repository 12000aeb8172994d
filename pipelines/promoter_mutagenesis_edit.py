"""An edited promoter beside its reference: what every kind of mutagenesis gives, and what a perturbation takes.

Both windows have the model's length with the TSS at base `window_bp // 2`, so that features of the two can be compared.
"""

from dataclasses import dataclass, replace
from typing import Any

from .perturbation_dna import checked_sequence, list_mutations
from .perturbation_edits import ReplaceSequence


@dataclass(frozen=True, eq=False)
class PromoterEdit:
    """One edit of a promoter.

    Attributes:
        sequence: the edited window, ACGTN.
        reference_sequence: the window of the reference, as long.
        description: how the edit was made, for a report: values of JSON.
    """

    sequence: str
    reference_sequence: str
    description: dict[str, Any]

    def __post_init__(self) -> None:
        assert len(self.sequence) == len(self.reference_sequence)

    @property
    def mutations(self) -> list[str]:
        """The bases that differ, e.g. "98304A>G", 0-based from the window's start."""
        return list_mutations(self.reference_sequence, self.sequence)

    def replace_sequence(self) -> ReplaceSequence:
        """For `pipe(cells, gene=..., edit=...)`."""
        return ReplaceSequence(self.sequence, self.reference_sequence)

    def described(self, **more: Any) -> "PromoterEdit":
        """The same edit with more in its description."""
        return replace(self, description={**self.description, **more})


def checked_reference(reference: str | bytes) -> str:
    """Upper-case ACGTN.

    Raises:
        ValueError: on any other letter but IUPAC's, which become N, or an empty window.
    """
    text = checked_sequence(reference.decode("ascii") if isinstance(reference, bytes) else reference)
    if not text:
        raise ValueError("the reference window is empty")
    return text


def bases_around(reference: str, window_bp: int, offset: int = 0) -> tuple[int, int]:
    """First base and end of the `window_bp` around the base `offset` from the TSS.

    Raises:
        ValueError: where they do not lie within the window.
    """
    start = len(reference) // 2 + offset - window_bp // 2
    if window_bp < 1 or start < 0 or start + window_bp > len(reference):
        raise ValueError(
            f"the {window_bp:,} bp around the base {offset:+,} from the TSS do not lie within the reference window of "
            f"{len(reference):,} bp, of which the TSS is base {len(reference) // 2:,}"
        )
    return start, start + window_bp
