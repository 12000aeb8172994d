"""Variants that are put into a promoter: of the user's list, of a whole VCF, or what one sample of it carries."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from .perturbation_options import EditOptions
from .promoter_windows import Promoter

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.edited_windows import EditedWindow
    from .data_scripts.genomes import Genome
    from .data_scripts.sequence_variants import SequenceVariant

logger = logging.getLogger(__name__)

NAMED = 12  # variants that a report names; all are in the table
MARGIN_BP = 20  # shown on either side of a variant
SHOWN_KINDS = ("snv", "insertion", "deletion", "substitution")
GAP = "-"
COLUMNS = ("gene_id", "variant", "name", "kind", "haplotype", "status")


@dataclass(frozen=True)
class CarriedVariants:
    """What a promoter's haplotypes carry.

    Attributes:
        windows: one where both haplotypes are alike, else both.
        table: one row a variant and haplotype: gene_id, variant, name, kind, haplotype (both, 1 or 2), status (applied,
            out of reach, overlaps an earlier one).
        report: counts of what reading the VCF left out.
        bases: of the first haplotype that has variants, the bases around them, see `aligned_bases`; None where they
            cannot be shown.
    """

    windows: "list[EditedWindow]"
    table: "pd.DataFrame"
    report: dict[str, int]
    bases: "pd.DataFrame | None" = None

    def notes(self) -> list[str]:
        """Sentences for a report: what was applied, what was not, what became of the TSS."""
        notes = []
        for haplotype, window in zip(_names(len(self.windows)), self.windows, strict=True):
            which = "Both haplotypes" if haplotype == "both" else f"Haplotype {haplotype}"
            notes.append(f"{which}: {_listed(window.applied, 'applied')}.")
            if window.out_of_reach:
                notes.append(f"{which}: {_listed(window.out_of_reach, 'out of reach of the window')}.")
            if window.left_out:
                notes.append(f"{which}: {_listed(window.left_out, 'left out, overlapping an earlier one')}.")
            if not window.tss_is_kept:
                notes.append(
                    f"{which}: the TSS is lost; the window is centred on base {window.anchor + 1:,} (1-based), the "
                    "nearest that is left downstream."
                )
        if self.bases is not None and len(self.windows) > 1:
            shown = next(number for number, window in enumerate(self.windows, start=1) if window.applied)
            notes.append(f"Of the two, the figure shows haplotype {shown} base by base.")
        if self.report:
            counts = ", ".join(f"{count:,} {what}" for what, count in self.report.items())
            notes.append(f"Of the VCF: {counts}.")
        return notes


def carry_variants(genome: "Genome", promoter: Promoter, options: EditOptions) -> CarriedVariants:
    """Put variants into a promoter's window.

    Raises:
        ValueError: where none of them reaches the window; for a sample that the VCF lacks; and as `parse_variant`,
            `read_sequence_variants`, `read_donor_variants` and `apply_variants`.
    """
    import pandas as pd

    from .data_scripts.edited_windows import apply_variants
    from .data_scripts.sequence_variants import parse_variant

    listed = [parse_variant(text) for text in options.variants or ()]
    haplotypes, report = _of_vcf(promoter, options)
    windows = [
        apply_variants(
            genome,
            [*haplotype, *listed],
            contig=promoter.contig,
            tss=promoter.tss,
            strand=promoter.strand,
            window_bp=promoter.layout.window_bp,
            orient_by_strand=promoter.layout.orient_by_strand,
            **options.chosen("overlapping"),
        )
        for haplotype in haplotypes
    ]
    name = promoter.symbol or promoter.gene_id
    if not any(window.applied for window in windows):
        count = len({str(variant) for haplotype in haplotypes for variant in haplotype} | set(map(str, listed)))
        raise ValueError(
            f"none of {count:,} variants reaches the window of {name}, {promoter.contig}:{promoter.start + 1:,}-"
            f"{promoter.end:,} (1-based){_left_out(report)}: nothing would change"
        )
    rows = [row for pair in zip(_names(len(windows)), windows, strict=True) for row in _rows(promoter.gene_id, *pair)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    logger.info("%s: %s", name, table.groupby(["haplotype", "status"]).size().to_dict())
    first = next(window for window in windows if window.applied)
    return CarriedVariants(windows, table, report, aligned_bases(genome, promoter, first.applied))


def aligned_bases(genome: "Genome", promoter: Promoter, applied: "Sequence[SequenceVariant]") -> "pd.DataFrame | None":
    """Reference and haplotype around its variants, base beside base, with gaps where one has none.

    Args:
        genome: that the variants are on.
        promoter: of the reference.
        applied: the variants, in the contig's order, none overlapping.

    Returns:
        One row a base, as `edited_bases`: position (in the reference's window, 0-based; of inserted bases that of the
        base in front), offset (from the TSS), reference, edited, is_changed. None for inversions, duplications, and
        windows that were turned round.
    """
    import pandas as pd

    edits = [variant.edit() for variant in applied]
    is_turned = promoter.layout.orient_by_strand and promoter.strand == "-"
    if is_turned or any(edit.kind not in SHOWN_KINDS for edit in edits):
        return None
    first, last = genome.starts[promoter.contig], genome.contigs[promoter.contig]
    rows: list[tuple[int, str, str]] = []
    shown_to = first
    for number, edit in enumerate(edits):
        next_start = edits[number + 1].start if number + 1 < len(edits) else last
        front = max(edit.start - MARGIN_BP, shown_to)
        shown_to = max(min(edit.end + MARGIN_BP, next_start), edit.end)
        letters = genome.fetch(promoter.contig, front, shown_to).decode()
        before, removed = letters[: edit.start - front], letters[edit.start - front : edit.end - front]
        rows += [(front + place, base, base) for place, base in enumerate(before)]
        for place, (one, other) in enumerate(zip_longest(removed, edit.bases, fillvalue=GAP)):
            rows.append((min(edit.start + place, max(edit.end - 1, edit.start - 1)), one, other))
        rows += [(edit.end + place, base, base) for place, base in enumerate(letters[edit.end - front :])]
    table = pd.DataFrame(rows, columns=["position", "reference", "edited"])
    table.insert(1, "offset", table["position"] - promoter.tss)
    table["position"] -= promoter.start
    return table.assign(is_changed=table["reference"] != table["edited"])


def _of_vcf(promoter: Promoter, options: EditOptions) -> "tuple[list[list[SequenceVariant]], dict[str, int]]":
    """The variants of one haplotype, or of both, and what was left out of the file."""
    import pandas as pd

    from .data_scripts.donor_variants import read_donor_variants
    from .data_scripts.sequence_variants import read_sequence_variants

    if options.vcf is None:
        return [[]], {}
    if options.sample is None:
        read = read_sequence_variants(options.vcf, **options.chosen("other_variants"))
        return [read.variants], read.left_out
    span = {"contig": [promoter.contig], "start": [promoter.start], "end": [promoter.end]}
    donors = read_donor_variants(
        options.vcf,
        donors=[options.sample],
        windows=pd.DataFrame(span),
        **options.chosen("unphased", "missing_genotypes", "other_variants", "overlapping", "unsorted"),
    )
    first, second = (donors.haplotype(options.sample, number) for number in (0, 1))
    return ([first] if first == second else [first, second]), donors.report


def _rows(gene_id: str, haplotype: str, window: "EditedWindow") -> list[tuple[Any, ...]]:
    groups = (
        ("applied", window.applied),
        ("out of reach", window.out_of_reach),
        ("overlaps an earlier one", window.left_out),
    )
    return [
        (gene_id, str(variant), variant.name, variant.kind, haplotype, status)
        for status, variants in groups
        for variant in variants
    ]


def _names(count: int) -> list[str]:
    return ["both"] if count == 1 else ["1", "2"]


def _listed(variants: "Sequence[SequenceVariant]", what: str) -> str:
    if not variants:
        return f"no variant {what}"
    named = ", ".join(map(str, variants[:NAMED]))
    more = f" and {len(variants) - NAMED:,} more (variants.tsv)" if len(variants) > NAMED else ""
    return f"{len(variants):,} variant{'s' * (len(variants) > 1)} {what}: {named}{more}"


def _left_out(report: dict[str, int]) -> str:
    return f"; of the VCF: {', '.join(f'{count:,} {what}' for what, count in report.items())}" if report else ""
