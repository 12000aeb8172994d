"""From BED files to the intervals of elements on the genome at hand: named, lifted, counted, several files to one.

- An element with several files (CTCF peaks of several cell types): files' intervals that share bases make a region;
  the regions present in at least so many files are the element, as a whole. With one file as the least, that is the
  union.
- Tissue rule, for promoters and enhancers from one file a tissue: regions over all tissues' files in the same way;
  a region present in at least `invariant_share` of the tissues is invariant, in at most `specific_share` of them
  (one at least) specific; what lies between is neither, and counted.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .annotation_build import BeyondContig, within_genome
from .bed_files import BedSource, read_bed
from .genome_files import GenomeFiles
from .interval_lift import lift_intervals
from .interval_regions import regions_across

logger = logging.getLogger(__name__)

TISSUE_KINDS = ("enhancer", "promoter")
BedFiles = BedSource | str | Path | Sequence[BedSource | str | Path]


@dataclass(frozen=True)
class IntervalReader:
    """Reads files of intervals onto the contigs that the data set uses.

    Attributes:
        genome: the sequence at hand.
        contigs: those used, as the genome names them.
        beyond_contig: as `within_genome`.
        minimum_match: as `lift_intervals`.
    """

    genome: GenomeFiles
    contigs: Collection[str]
    beyond_contig: BeyondContig = "error"
    minimum_match: float = 0.95

    def read(self, source: BedSource | str | Path, *, may_be_absent: bool = False) -> tuple[pd.DataFrame, dict]:
        """Intervals on the contigs used, cut at the ends of the sequence at hand, and an account of the others.

        Args:
            source: a file.
            may_be_absent: whether it may have no interval on any of the contigs, as a blacklist may.

        Raises:
            FileNotFoundError, ValueError: as `read_bed`, `lift_intervals` and `within_genome`; for a file with
                nothing on any of the contigs.
        """
        source = source if isinstance(source, BedSource) else BedSource(source)
        table, report = read_bed(source)
        report = {"file": Path(source.path).name, "name": source.name, **report}
        if source.chain is not None:
            table, report["lift"] = lift_intervals(table, source.chain, minimum_match=self.minimum_match)
        table = self._on_contigs(source, table, report, may_be_absent)
        table, outside = within_genome(table, self.genome, source=str(source.path), beyond_contig=self.beyond_contig)
        report |= {**outside, "kept": len(table)}
        return table, report

    def _on_contigs(self, source: BedSource, table: pd.DataFrame, report: dict, may_be_absent: bool) -> pd.DataFrame:
        names = {contig: self.genome.find(contig) for contig in table["contig"].unique()}
        found = table.assign(contig=table["contig"].map(names))
        is_used = found["contig"].isin(self.contigs)
        report["on contigs not used"] = int((~is_used).sum())
        if not is_used.any():
            message = (
                f"{source.path} has no interval on the contigs used, {_shown(self.contigs)}; it is on {_shown(names)}"
            )
            if not may_be_absent:
                raise ValueError(f"{message}. Are its contigs named otherwise, or is it of another genome?")
            logger.warning("%s", message)
        absent = [contig for contig in self.contigs if contig not in set(found["contig"])]
        if absent:
            report["contigs without an interval"] = absent
        if absent and not may_be_absent:
            logger.warning("%s has no interval on %s: labels there are 0", source.path, _shown(absent))
        return found[is_used].reset_index(drop=True)


def read_blacklist(reader: IntervalReader, blacklist: BedFiles | None) -> tuple[pd.DataFrame, list[dict]]:
    """contig, start, end of all files' intervals, which may lack any of the contigs; and an account of each file."""
    files = [] if blacklist is None else [blacklist] if isinstance(blacklist, BedSource | str | Path) else blacklist
    read = [reader.read(file, may_be_absent=True) for file in files]
    empty = pd.DataFrame({"contig": [], "start": [], "end": []}).astype({"start": "int64", "end": "int64"})
    table = pd.concat([table[["contig", "start", "end"]] for table, _ in read]) if read else empty
    return table, [report for _, report in read]


def bed_elements(
    reader: IntervalReader, beds: Mapping[str, BedFiles], minimum_files: Mapping[str, int] | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Elements from BED files.

    Args:
        reader: of the files.
        beds: element -> a file, or several.
        minimum_files: element -> the number of its files in which a region must be present; 1 by default.

    Returns:
        element -> contig, start, end; and element -> its files with their counts.

    Raises:
        ValueError: for a number of files that no element can have.
    """
    minimum_files = dict(minimum_files or {})
    tables, sources = {}, {}
    for element, files in beds.items():
        several = [files] if isinstance(files, BedSource | str | Path) else list(files)
        least = minimum_files.pop(element, 1)
        if not 1 <= least <= len(several):
            raise ValueError(f"minimum_files of {element} is {least}; it has {len(several)} files")
        read = [reader.read(file) for file in several]
        regions = regions_across([table for table, _ in read])
        tables[element] = regions[regions["n_files"] >= least]
        account: dict = {"files": [report for _, report in read]}
        if len(several) > 1:
            counts = {"in at least so many files": least, "regions": len(regions), "regions kept": len(tables[element])}
            account |= counts
        sources[element] = account
    if minimum_files:
        raise ValueError(f"minimum_files names {_shown(minimum_files)}, elements without files")
    return tables, sources


def tissue_elements(
    reader: IntervalReader,
    tissue_beds: Mapping[str, Mapping[str, BedSource | str | Path]],
    *,
    invariant_share: float = 1.0,
    specific_share: float = 0.0,
) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Tissue-specific and tissue-invariant elements by the rule above.

    Args:
        reader: of the files.
        tissue_beds: `promoter`, `enhancer` -> tissue -> its file.
        invariant_share: a region in at least this share of the tissues is invariant.
        specific_share: a region in at most this share of them, or in one tissue, is specific.

    Returns:
        As `bed_elements`, for {kind}_Tissue_specific and {kind}_Tissue_invariant.

    Raises:
        ValueError: for another kind, fewer than two tissues, shares that overlap.
    """
    tables, sources = {}, {}
    for kind, tissues in tissue_beds.items():
        if kind not in TISSUE_KINDS:
            raise ValueError(f"tissue_beds has {kind!r}; expected {' or '.join(TISSUE_KINDS)}")
        if len(tissues) < 2:
            raise ValueError(f"{kind} has {len(tissues)} tissue; expected two or more to tell specific from invariant")
        # 1e-9: a share such as 0.3 times 10 tissues is 3, whatever the floating point says.
        at_least = math.ceil(invariant_share * len(tissues) - 1e-9)
        at_most = max(1, math.floor(specific_share * len(tissues) + 1e-9))
        if not at_most < at_least <= len(tissues):
            raise ValueError(
                f"of {len(tissues)} tissues, invariant in at least {at_least} and specific in at most {at_most}: "
                "expected the first to be greater, and no more than there are tissues"
            )
        read = {tissue: reader.read(file) for tissue, file in tissues.items()}
        regions = regions_across([table for table, _ in read.values()])
        is_specific, is_invariant = regions["n_files"] <= at_most, regions["n_files"] >= at_least
        counts: dict = {"tissues": {tissue: report for tissue, (_, report) in read.items()}, "regions": len(regions)}
        counts["regions neither specific nor invariant"] = int((~is_specific & ~is_invariant).sum())
        for name, is_kept, rule in (
            ("specific", is_specific, {"in at most so many tissues": at_most}),
            ("invariant", is_invariant, {"in at least so many tissues": at_least}),
        ):
            tables[f"{kind}_Tissue_{name}"] = regions[is_kept]
            sources[f"{kind}_Tissue_{name}"] = {**rule, "regions kept": int(is_kept.sum()), **counts}
    return tables, sources


def _shown(names: Collection[str], limit: int = 8) -> str:
    more = f", ... ({len(names) - limit:,} more)" if len(names) > limit else ""
    return ", ".join(list(names)[:limit]) + more
