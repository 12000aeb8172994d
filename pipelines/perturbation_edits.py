"""The edits that a perturbation makes at one gene, and how each changes a batch of ranked cells.

Sources: delete and overexpress are the in silico steps of Theodoris et al. 2023 (remove the token; move it to the
front); changed DNA features are those of Bio-DTA, "In silico mutagenesis". Deviations: `MaskGene` and
`DeleteGeneInPlace` keep every other gene's position, which deletion does not: deleting moves all later genes up by one,
itself a change.
Shapes: B cells, G tokens a cell.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, get_args

import numpy as np
import torch


@dataclass(frozen=True)
class DeleteGene:
    """Take the gene's token out; the genes after it move up by one rank."""

    kind: ClassVar[str] = "delete"


@dataclass(frozen=True)
class DeleteGeneInPlace:
    """Take the gene's token out; every other gene keeps its position, as if its rank were left empty."""

    kind: ClassVar[str] = "delete-in-place"


@dataclass(frozen=True)
class MaskGene:
    """Put `<mask>` in the place of the gene's token; every other gene keeps its rank."""

    kind: ClassVar[str] = "mask"


@dataclass(frozen=True)
class OverexpressGene:
    """Move the gene's token to the front; the genes before it move down by one rank."""

    kind: ClassVar[str] = "overexpress"


@dataclass(frozen=True)
class SetRank:
    """Move the gene's token to a rank; the genes between its old and its new rank move by one.

    Args:
        rank: the gene's new rank among the genes of its cell; 0 is the first, the strongest.
    """

    rank: int
    kind: ClassVar[str] = "set-rank"

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int | np.integer) or self.rank < 0:
            raise ValueError(f"the rank to set is {self.rank!r}: give a whole number from 0, the strongest gene")


@dataclass(frozen=True, eq=False)
class ReplaceFeatures:
    """Give the gene other DNA features, (dna_feature_size,) numbers made as the model's own were."""

    features: Any
    kind: ClassVar[str] = "features"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", torch.as_tensor(self.features).float().cpu().numpy())


@dataclass(frozen=True)
class ReplaceSequence:
    """Give the gene the DNA features of another sequence.

    Args:
        sequence: ACGTN, as long as the windows that the model's features come from, and centred on the TSS like them.
        reference_sequence: the window of the reference. With it, only the difference between the two sequences'
            features is taken from the DNA model, so that rounding which both share drops out, and a wrong window is
            noticed.
    """

    sequence: str
    reference_sequence: str | None = None
    kind: ClassVar[str] = "sequence"


@dataclass(frozen=True)
class ReplaceHaplotypes:
    """Give the gene the DNA features of two haplotypes: the mean of what each changes of the reference's features.

    Args:
        sequences: the windows of both haplotypes, as `ReplaceSequence.sequence`; one may be the reference.
        reference_sequence: the window of the reference.
    """

    sequences: tuple[str, str]
    reference_sequence: str
    kind: ClassVar[str] = "haplotypes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", tuple(self.sequences))
        if len(self.sequences) != 2:
            raise ValueError(f"{len(self.sequences)} sequences were given for haplotypes: give the windows of both")


@dataclass(frozen=True)
class RandomMutations:
    """Change bases around the TSS at random, each to one of the three others.

    Args:
        reference_sequence: the window of the reference, centred on the TSS.
        count: how many bases change; N is never one of them.
        window_bp: they lie in the `window_bp` bases around the centre of the window.
        seed: the same seed gives the same mutations.
    """

    reference_sequence: str
    count: int = 10
    window_bp: int = 500
    seed: int = 0
    kind: ClassVar[str] = "random-mutations"


Edit = (
    DeleteGene
    | DeleteGeneInPlace
    | MaskGene
    | OverexpressGene
    | SetRank
    | ReplaceFeatures
    | ReplaceSequence
    | ReplaceHaplotypes
    | RandomMutations
)
EDITS: dict[str, type] = {edit.kind: edit for edit in get_args(Edit)}
WITHOUT_DNA = ("delete", "delete-in-place", "mask", "overexpress", "set-rank")
# Those that a name alone says.
NAMED_EDITS = ("delete", "delete-in-place", "mask", "overexpress")
_SEQUENCE = re.compile(r"[ACGTNacgtn]{20,}")


def parse_edit(edit: Any) -> Edit:
    """An edit from what a user may give for it.

    Args:
        edit: one of this module's edits; "delete", "delete-in-place", "mask" or "overexpress"; a DNA sequence of 20
            bases or more; an array of features; or a mapping with `kind` and the edit's fields, e.g. from JSON.

    Raises:
        ValueError: on anything else.
    """
    if getattr(edit, "kind", None) in EDITS:  # by kind: code loaded from the Hub has classes of its own
        return edit
    if isinstance(edit, Mapping):
        return _from_mapping(edit)
    if isinstance(edit, str) and edit in NAMED_EDITS:
        return EDITS[edit]()
    if isinstance(edit, str) and _SEQUENCE.fullmatch(edit):
        return ReplaceSequence(edit)
    if isinstance(edit, np.ndarray | torch.Tensor | list | tuple):
        return ReplaceFeatures(edit)
    raise ValueError(_unknown_edit(edit))


def describe(edit: Edit) -> dict[str, Any]:
    """The edit for a report: its kind and its fields, long ones by their length."""
    described: dict[str, Any] = {"kind": edit.kind}
    for name, value in asdict(edit).items():
        if isinstance(value, np.ndarray):
            described[name] = f"{value.size:,} numbers"
        elif isinstance(value, str):
            described[name] = f"{len(value):,} bp"
        elif isinstance(value, tuple | list):
            described[name] = " and ".join(f"{len(sequence):,} bp" for sequence in value)
        elif value is not None:
            described[name] = value
    return described


class Batch(NamedTuple):
    """Ranked cells, padded: (B, G) each; `variant_ids` rows of variant features, -1 for the reference's DNA."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    variant_ids: torch.Tensor


class EditedBatch(NamedTuple):
    """The edited cells, and where each token of the reference is in them.

    Attributes:
        batch: the edited cells, (B, G) like the reference.
        place: (B, G) int64, the edited position of each reference position; -1 where the token is gone.
    """

    batch: Batch
    place: torch.Tensor


def edit_batch(
    kind: str,
    batch: Batch,
    token_id: int,
    *,
    mask_token_id: int,
    num_special_tokens: int,
    variant_id: int = -1,
    rank: int = 0,
) -> EditedBatch:
    """Edit the gene `token_id` in each cell of a batch that has it; the others stay as they are.

    Args:
        kind: the edit's kind; all that change DNA act alike here.
        batch: the reference.
        token_id: the gene, at most once a cell.
        mask_token_id: id of `<mask>`.
        num_special_tokens: ids below are special; one at the front of a cell (`<cls>`) stays there.
        variant_id: the row of variant features that the gene gets, for edits of DNA.
        rank: the gene's new rank, for "set-rank"; every cell that has the gene must have more genes than that.
    """
    is_gene = batch.input_ids == token_id  # (B, G)
    has_gene = is_gene.any(dim=1, keepdim=True)  # (B, 1)
    columns = torch.arange(batch.input_ids.shape[1], device=is_gene.device).expand_as(batch.input_ids)
    beyond = batch.input_ids.shape[1]  # no column: what concerns a gene that a cell lacks moves nothing there
    position = torch.where(has_gene, is_gene.int().argmax(dim=1, keepdim=True), beyond)
    if kind == "delete":
        edited = _gather(batch, columns + (columns >= position))
        return EditedBatch(edited, torch.where(is_gene, -1, columns - (columns > position).long()))
    if kind == "delete-in-place":
        return EditedBatch(_blanked(batch, is_gene), torch.where(is_gene, -1, columns))
    if kind in ("overexpress", "set-rank"):
        front = (batch.input_ids[:, :1] < num_special_tokens).long()  # (B, 1): after <cls>, where there is one
        target = torch.where(has_gene, front + (rank if kind == "set-rank" else 0), beyond)
        place = _place_after_move(columns, position, target)
        source = torch.empty_like(place).scatter_(1, place, columns)
        return EditedBatch(_gather(batch, source), place)
    if kind == "mask":
        masked = batch._replace(input_ids=batch.input_ids.masked_fill(is_gene, mask_token_id))
        return EditedBatch(masked, torch.where(is_gene, -1, columns))
    return EditedBatch(batch._replace(variant_ids=batch.variant_ids.masked_fill(is_gene, variant_id)), columns)


def follow(first: EditedBatch, second: EditedBatch) -> EditedBatch:
    """Two edits, one after the other: where each token of the first's reference is after the second."""
    place = second.place.gather(1, first.place.clamp(min=0))
    return EditedBatch(second.batch, torch.where(first.place >= 0, place, -1))


def _place_after_move(columns: torch.Tensor, position: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, G) new column of each column when the token at `position` moves to `target`, (B, 1) each."""
    down = (columns >= target) & (columns < position)
    up = (columns > position) & (columns <= target)
    return torch.where(columns == position, target, columns + down.long() - up.long())


def _blanked(batch: Batch, where: torch.Tensor) -> Batch:
    return Batch(
        batch.input_ids.masked_fill(where, 0),
        batch.attention_mask.masked_fill(where, 0),
        batch.variant_ids.masked_fill(where, -1),
    )


def _gather(batch: Batch, source: torch.Tensor) -> Batch:
    """Rearrange each cell; `source` (B, G) may name one position past the end, which is padding."""
    padding = (0, 0, -1)  # of input ids, mask and variant ids
    columns = (
        torch.nn.functional.pad(tensor, (0, 1), value=value).gather(1, source)
        for tensor, value in zip(batch, padding, strict=True)
    )
    return Batch(*columns)


def _from_mapping(edit: Mapping[str, Any]) -> Edit:
    fields = dict(edit)
    kind = fields.pop("kind", None)
    if kind not in EDITS:
        raise ValueError(_unknown_edit(kind))
    try:
        return EDITS[kind](**fields)
    except TypeError as error:
        raise ValueError(f"the edit {kind!r} does not take these fields: {error}") from error


def _unknown_edit(edit: Any) -> str:
    close = difflib.get_close_matches(str(edit), list(EDITS), n=1)
    return (
        f'unknown edit {str(edit)[:60]!r}{f" (did you mean {close[0]!r}?)" if close else ""}: expected "delete", '
        '"delete-in-place", "mask", "overexpress", an array of DNA features, a sequence of 20 bases or more, '
        f'SetRank(...), RandomMutations(...), or a mapping whose "kind" is one of {", ".join(EDITS)}'
    )
