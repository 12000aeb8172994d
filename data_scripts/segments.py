"""The data set that SegmentNT trains on: windows of DNA with a label a base for each element of the genome.

Source: the SegmentNT publication's 14 elements ("Segmenting the genome at single-nucleotide resolution with DNA
foundation models"). The rules from annotation to labels are in `segment_elements.py`, those for BED files in
`segment_sources.py`. Deviations: elements that no file tells are left out of the data set and named, never labelled 0
everywhere; any further element may be added from BED.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .annotation_build import BeyondContig, check_start_codons, within_genome
from .bed_files import BedSource
from .configuration_name import configuration_name
from .genome_files import GenomeFiles
from .segment_elements import SEGMENT_ELEMENTS, TranscriptChoice, annotation_intervals
from .segment_sources import BedFiles, IntervalReader, bed_elements, read_blacklist, tissue_elements
from .segment_windows import SPLITS, Ends, IntervalTracks, Place, SplitRegion, lay_windows, split_regions
from .segment_writer import SegmentWriter, SplitCounts
from .transcript_structures import TranscriptStructures, read_transcript_structures
from .whole_folder import require_free, whole_folder

logger = logging.getLogger(__name__)


def build_segments(
    fasta: str | Path | Sequence[str | Path],
    annotation: str | Path | None,
    output: str | Path,
    *,
    train: Sequence[Place] = (),
    validation: Sequence[Place] = (),
    test: Sequence[Place] = (),
    elements: Sequence[str] | None = None,
    beds: Mapping[str, BedFiles] | None = None,
    minimum_files: Mapping[str, int] | None = None,
    tissue_beds: Mapping[str, Mapping[str, BedSource | str | Path]] | None = None,
    invariant_share: float = 1.0,
    specific_share: float = 0.0,
    blacklist: BedFiles | None = None,
    window_bp: int = 6_000,
    step_bp: int | None = None,
    ends: Ends = "drop",
    split_gap_bp: int | None = None,
    maximum_masked: float = 0.5,
    transcripts: TranscriptChoice = "all",
    maximum_level: int | None = None,
    splice_site_bp: int = 2,
    minimum_intron_bp: int = 20,
    minimum_start_codons: float = 0.6,
    minimum_match: float = 0.95,
    beyond_contig: BeyondContig = "error",
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    overwrite: bool = False,
) -> dict:
    """Write windows with labels as a data set: a folder that `load_dataset` reads, one row a window.

    Columns: contig, start, end (0-based, half-open), sequence (letters ACGTN of the plus strand), labels (bits of
    (elements, bases), see `unpack_labels`), ignored (bits of (bases,): blacklisted or N, neither trained on nor
    scored; no bytes where no base is). `elements.json` names the elements in order, where each comes from, how many
    bases of each split it covers and how many are scored; only bases not ignored count, and bases in overlapping
    windows count in each. `report.json` accounts for what was left out; it is also returned. The same input gives
    the same bytes. The folder appears when it is complete.

    Args:
        fasta: one FASTA file or several: plain, gzip or BGZF.
        annotation: GTF, GFF3 or genePred, for the first eight of the 14 elements; None where BED files tell all.
        output: folder to make.
        train, validation, test: contigs of each split (`chr20` and `20` are the same), or regions of contigs, as text
            `20:1-30,000,000` (1-based, both ends included) or as (contig, start, end), 0-based half-open. Windows lie
            within one region.
        elements: those to have, in this order; by default all that a file tells, in SegmentNT's order, then others in
            the order of `beds`.
        beds: element -> BED file or files: of the 14, or of any other name. It takes the place of what the annotation
            tells. Names and assemblies: `BedSource`.
        minimum_files: element with several files -> in how many of them a region must be present; 1, the union, by
            default.
        tissue_beds: `promoter`, `enhancer` -> tissue -> BED file, for the tissue-specific and tissue-invariant ones.
        invariant_share, specific_share: as `tissue_elements`.
        blacklist: BED file or files of bases to be ignored.
        window_bp, step_bp: length of a window, and from the start of one to the start of the next (`window_bp`).
        ends: `drop` the bases behind a region's last whole window, or `keep` a shorter window.
        split_gap_bp: least distance of two splits' regions on one contig (`window_bp`).
        maximum_masked: windows with a larger share of bases that are N or blacklisted are dropped.
        transcripts, maximum_level, splice_site_bp, minimum_intron_bp: as `annotation_intervals`.
        minimum_start_codons: least share of start codons that are ATG, as `check_start_codons`.
        minimum_match: least share of an interval's length that a lift keeps, as `lift_intervals`.
        beyond_contig: intervals that reach beyond their contig: `error`, or `drop` what is beyond and count.
        offsets: contig -> 0-based coordinate of the first base, for contigs of which a file holds a piece. A piece
            from the contig's beginning has the offset 0. What lies outside pieces is counted, never an error.
        cache_folder: as `open_genome`.
        overwrite: replace the folder.

    Raises:
        FileExistsError: where the folder exists and `overwrite` is false.
        FileNotFoundError: for a file that is not there.
        ValueError: for contigs in no file or in two splits, files of another assembly (start codons, ends of
            contigs), empty or broken files, elements without a source, a split without windows; the message names
            the place.
    """
    output = Path(output)
    require_free(output, overwrite=overwrite)
    step_bp = window_bp if step_bp is None else step_bp
    lay_windows(0, 0, window_bp=window_bp, step_bp=step_bp, ends=ends)  # wrong lengths are told before files are read
    if not 0 <= maximum_masked <= 1:
        raise ValueError(f"maximum_masked is {maximum_masked}; expected a share from 0 to 1")
    rules: dict[str, Any] = {"transcripts": transcripts, "maximum_level": maximum_level}
    rules |= {"splice_site_bp": splice_site_bp, "minimum_intron_bp": minimum_intron_bp}
    layout: dict[str, Any] = {"window_bp": window_bp, "step_bp": step_bp}
    layout |= {"ends": ends, "maximum_masked": maximum_masked}
    with GenomeFiles(fasta, offsets=offsets, cache_folder=cache_folder) as genome:
        splits = {"train": train, "validation": validation, "test": test}
        regions = split_regions(genome, splits, gap_bp=window_bp if split_gap_bp is None else split_gap_bp)
        contigs = list(dict.fromkeys(region.contig for region in regions))
        reader = IntervalReader(genome, contigs, beyond_contig, minimum_match)
        report: dict = {"settings": {**layout, **rules}}
        found = _Elements()
        if annotation is not None:
            structures, report["annotation"] = _read_annotation(reader, Path(annotation), minimum_start_codons)
            tables, account = annotation_intervals(structures, **rules)
            report["annotation"] |= account
            found.add(*_at_hand(tables, genome, Path(annotation)))
        found.add(*bed_elements(reader, beds or {}, minimum_files))
        shares = {"invariant_share": invariant_share, "specific_share": specific_share}
        found.add(*tissue_elements(reader, tissue_beds or {}, **shares))
        report["elements without a source, left out"] = found.choose(elements)
        report["sources"] = found.sources
        blacklisted, report["blacklist"] = read_blacklist(reader, blacklist)
        ignored = IntervalTracks({"blacklist": blacklisted})
        writer = SegmentWriter(genome, IntervalTracks(found.tables), ignored, **layout)
        with whole_folder(output) as partial:
            _write(writer, regions, partial, found, report)
    logger.info("%s: %s", output, report["windows"])
    return report


@dataclass
class _Elements:
    """Elements with a source so far: intervals, and where they come from."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    sources: dict[str, dict] = field(default_factory=dict)

    def add(self, tables: Mapping[str, pd.DataFrame], sources: Mapping[str, dict]) -> None:
        wrong = [name for name in tables if not re.fullmatch(r"[\w.+-]+", name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no name of an element; expected letters, digits, _ . + or -")
        replaced = sorted(set(tables) & set(self.tables))
        if replaced:
            logger.info("these files take the place of what came before: %s", ", ".join(replaced))
        self.tables |= tables
        self.sources |= sources

    def choose(self, elements: Sequence[str] | None) -> list[str]:
        """Put the elements in order, or keep those asked for; the elements of SegmentNT that have no source."""
        known = [name for name in SEGMENT_ELEMENTS if name in self.tables]
        there = known + [name for name in self.tables if name not in SEGMENT_ELEMENTS]
        chosen = there if elements is None else list(elements)
        missing = [name for name in chosen if name not in self.tables]
        if missing or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"elements asked for: {', '.join(chosen) or 'none'}; without a source: "
                f"{', '.join(missing) or 'none'}. There are {', '.join(there) or 'none'}; expected each once, and a "
                "BED file for those that the annotation does not tell"
            )
        without = [name for name in SEGMENT_ELEMENTS if name not in self.tables]
        if without:
            logger.warning("elements without a source, left out: %s", ", ".join(without))
        self.tables = {name: self.tables[name] for name in chosen}
        self.sources = {name: self.sources[name] for name in chosen}
        return without


def _read_annotation(
    reader: IntervalReader, path: Path, minimum_start_codons: float
) -> tuple[TranscriptStructures, dict]:
    """The transcripts on the contigs used, checked against the genome."""
    genome = reader.genome
    structures = read_transcript_structures(
        path, contig_names=lambda name: found if (found := genome.find(name)) in reader.contigs else None
    )
    there = set(structures.transcripts["contig"]) | set(structures.genes["contig"])
    absent = [contig for contig in reader.contigs if contig not in there]
    if not there:
        raise ValueError(
            f"{path} has no gene on the contigs used, {', '.join(reader.contigs)}; it is on "
            f"{', '.join(structures.contigs[:8])}. Are its contigs named otherwise, or is it of another genome?"
        )
    if absent:
        logger.warning("%s has no gene on %s: labels there are 0", path, ", ".join(absent))
    report = {"file": path.name, **structures.report, "contigs without a gene": absent}
    for table, name in ((structures.transcripts, "transcripts"), (structures.genes, "genes")):
        _, outside = within_genome(table, genome, source=str(path), beyond_contig=reader.beyond_contig)
        report |= {f"{name} {reason}": number for reason, number in outside.items()}
    report["start codons"] = check_start_codons(genome, structures, minimum_share=minimum_start_codons)
    return structures, report


def _at_hand(
    tables: Mapping[str, pd.DataFrame], genome: GenomeFiles, path: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Intervals cut at the ends of the sequence, of transcripts that are counted already; where they come from."""
    cut = {
        name: within_genome(table, genome, source=str(path), beyond_contig="drop")[0] for name, table in tables.items()
    }
    return cut, {name: {"file": path.name, "intervals": len(table.drop_duplicates())} for name, table in cut.items()}


def _write(writer: SegmentWriter, regions: Sequence[SplitRegion], folder: Path, found: _Elements, report: dict) -> None:
    """Everything in the folder; `report` gains what was written."""
    names = list(found.tables)
    counts: dict[str, SplitCounts] = {}
    for split in [split for split in SPLITS if any(region.split == split for region in regions)]:
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        counts[split] = writer.write(path, [region for region in regions if region.split == split])
        _check_split(split, counts[split], names, writer)
    report["windows"] = {split: _window_counts(one) for split, one in counts.items()}
    report["regions"] = {split: [str(one) for one in regions if one.split == split] for split in counts}
    report["IUPAC letters read as N"] = writer.genome.ambiguous_letters
    positives = {split: dict(zip(names, one.positives.tolist(), strict=True)) for split, one in counts.items()}
    summary = {"elements": names, "sources": found.sources, "counts": positives}
    summary["bases"] = {split: one.bases for split, one in counts.items()}
    (folder / "elements.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "README.md").write_text(_data_card(folder, list(counts), names, writer))


def _check_split(split: str, counts: SplitCounts, names: list[str], writer: SegmentWriter) -> None:
    dropped = counts.dropped_n + counts.dropped_blacklisted
    if not counts.windows:
        raise ValueError(
            f"no window is left in {split}: {dropped:,} have more than {writer.maximum_masked:.0%} of their bases N or "
            f"blacklisted, and {counts.bases_behind:,} bases lie behind the last window of {writer.window_bp:,} bp"
        )
    absent = [name for name, number in zip(names, counts.positives, strict=True) if not number]
    if absent:
        logger.warning("%s has no base of %s", split, ", ".join(absent))


def _window_counts(counts: SplitCounts) -> dict[str, int]:
    return {
        "windows": counts.windows,
        "windows dropped, N": counts.dropped_n,
        "windows dropped, blacklisted": counts.dropped_blacklisted,
        "bases behind the last window": counts.bases_behind,
        "bases scored": counts.bases,
        "bases N or blacklisted, ignored": counts.masked,
    }


def _data_card(folder: Path, splits: list[str], names: list[str], writer: SegmentWriter) -> str:
    files = [folder / "data" / f"{split}-00000-of-00001.parquet" for split in splits]
    lines = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    return _DATA_CARD.format(
        # The order of the elements is part of the content: the bits do not tell it.
        configuration=configuration_name([*files, folder / "elements.json"]),
        data_files=lines,
        window_bp=writer.window_bp,
        step_bp=writer.step_bp,
        elements=", ".join(names),
    )


_DATA_CARD = """---
configs:
- config_name: {configuration}
  data_files:
{data_files}---
# Elements of the genome, base by base

One row a window of {window_bp:,} bp, {step_bp:,} bp from the start of one to the start of the next. Coordinates are
0-based, half-open; the sequence is that of the plus strand.

- labels: bits, (elements, bases), each element's row in whole bytes, the first base in the highest bit:
  `numpy.unpackbits(numpy.frombuffer(labels, numpy.uint8).reshape(elements, -1), axis=1, count=bases)`
- ignored: bits, (bases,), 1 where a base is N or blacklisted: neither trained on nor scored; no bytes where none is

Elements, in order: {elements}.

elements.json says where each comes from and counts the scored bases that it covers. report.json accounts for what
was left out.
"""
