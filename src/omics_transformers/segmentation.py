"""From a saved SegmentNT and a genome to bigWigs, called segments, a summary and figures: what `segment` runs.

Whole chromosomes go through block by block: a block's probabilities are written and dropped, so that memory does not
grow with the sequence, and a run that was stopped goes on with the next block. What it writes is then, byte for byte,
what an uninterrupted run writes (summary.json's `seconds` apart).
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .pipelines.segmentation_calls import require_call_options
from .pipelines.segmentation_figure import draw_locus, save_figure
from .pipelines.segmentation_input import Region, RegionScan, scan_region
from .pipelines.segmentation_tracks import read_bigwig, require_decimals, rounded, track_names
from .pipelines.segmentation_windows import Piece, Stretch, blocks_of
from .segmentation_blocks import SegmentationBlocks
from .segmentation_files import (
    BED,
    TABLE,
    TRACKS,
    CallOptions,
    ElementCounts,
    FinishedBlocks,
    merge_segments,
    write_elements,
)
from .segmentation_regions import find_plotted, find_regions, read_transcripts

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.genomes import Genome
    from .pipelines.dna_segmentation import DNASegmentationPipeline
    from .pipelines.segmentation_result import Thresholds
    from .pipelines.segmentation_run import WindowSettings

logger = logging.getLogger(__name__)

SUMMARY, FIGURES = "summary.json", "figures"
FILES = (TRACKS, BED, TABLE, SUMMARY, FIGURES)
DTYPES = ("float32", "bfloat16", "float16")
# Fields of a configuration that do not move its logits.
_NOT_OF_THE_MODEL = {"_name_or_path", "transformers_version", "architectures", "auto_map", "dtype", "thresholds"}


@dataclass(frozen=True)
class SegmentedGenome:
    """What `segment` wrote.

    Attributes:
        folder: tracks/<element>.bw, segments.bed, segments.tsv, summary.json, and figures/ where plots were asked for.
        summary: the content of summary.json.
    """

    folder: Path
    summary: dict[str, Any]

    def table(self) -> "pd.DataFrame":
        """segments.tsv: contig, start, end (0-based, half-open), element, mean_probability, max_probability."""
        import pandas as pd

        return pd.read_csv(self.folder / TABLE, sep="\t", dtype={"contig": str})


def segment(
    genome: str | Path,
    output: str | Path,
    *,
    model: "str | Path | DNASegmentationPipeline",
    regions: Sequence[str] | None = None,
    bed: str | Path | None = None,
    window_bp: int | None = None,
    overlap: float = 0.5,
    batch_size: int | None = None,
    reverse_complement: bool = False,
    split_at_n: int = 12,
    thresholds: "Thresholds" = None,
    minimum_length: int = 1,
    merge_gap: int = 0,
    decimals: int | None = 3,
    annotation: str | Path | None = None,
    plot: Sequence[str] | None = None,
    offsets: Mapping[str, int] | None = None,
    cache_folder: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> SegmentedGenome:
    """Segment a FASTA file, or regions of it.

    Finished blocks lie in the folder `<output>.partial` until all are done: the same call goes on with them. How
    segments are called and what is plotted may be changed on the way.

    Args:
        genome: FASTA: plain, gzip or BGZF.
        output: folder for tracks/, segments.bed, segments.tsv, summary.json and figures/.
        model: folder or Hub repository of a SegmentNT, or a pipeline that holds one.
        regions: `chr20:1,000-2,000` (1-based, both positions included) or contigs; all contigs where neither these nor
            `bed` are given. Regions that share bases become one.
        bed: file of further regions (0-based, half-open, as BED is).
        window_bp, overlap, batch_size, reverse_complement, split_at_n: as the pipeline takes them.
        thresholds: probability from which a base is called: one number, element -> number, or one an element; by
            default the model's own (`config.thresholds`), or 0.5.
        minimum_length: shorter segments are left out, after merging, and counted, in bp.
        merge_gap: segments with at most this many bp between them become one.
        decimals: probabilities are rounded to these, in the bigWigs and before bases are called, so that neighbours
            often share an interval; None: float32 as it is, and files several times the size.
        annotation: GTF, GFF3 or genePred whose transcripts are drawn beneath the plots.
        plot: regions to draw, as `regions`; each within a segmented one.
        offsets, cache_folder: as `open_genome`.
        device: e.g. cpu or cuda:0; a GPU where there is one.
        dtype: of the model: float32, bfloat16 or float16; by default bfloat16 on a GPU that has it, else float32.
        trust_remote_code: let a Hub repository's own code run.
        overwrite: replace an earlier result in `output`, and discard unfinished blocks made from something else.
        processes: that write tracks at once, an element each, once the model is done; the bytes do not depend on it.
        progress: show progress bars.

    Returns:
        SegmentedGenome.

    Raises:
        FileExistsError: where `output` holds something, or unfinished blocks were made from something else.
        ValueError: for letters that are not DNA, unknown contigs, regions beyond them, a model without segmentation
            head, windows longer than it takes, and numbers out of range; all before the model runs.
    """
    started = time.monotonic()
    output = Path(output)
    _require_room(output, overwrite)
    require_call_options(minimum_length, merge_gap)
    require_decimals(decimals)
    if processes < 1:
        raise ValueError(f"processes is {processes}: expected 1 or more")
    with _open_genome(genome, offsets, cache_folder) as opened:
        chosen = find_regions(opened, regions, bed)
        plotted = find_plotted(opened, plot or (), chosen)
        transcripts = read_transcripts(annotation, opened, plotted)
        pipe = _open_pipeline(model, device, dtype, trust_remote_code)
        settings = pipe.window_settings(
            window_bp=window_bp,
            overlap=overlap,
            batch_size=batch_size,
            reverse_complement=reverse_complement,
            split_at_n=split_at_n,
        )
        calls = CallOptions(pipe.thresholds(thresholds), minimum_length, merge_gap)
        track_names(pipe.elements)
        scans = _scan(opened, chosen, split_at_n, progress)
        plan = _Plan([stretch for scan in scans for stretch in scan.stretches], settings)
        _require_bases(plan, genome)
        fingerprint = _fingerprint(pipe, settings, chosen, scans, decimals)
        blocks = SegmentationBlocks(output, fingerprint)
        blocks.check(overwrite=overwrite)
        blocks.open()
        try:
            _segment_blocks(blocks, plan, pipe, opened, settings, decimals, progress)
            folder = blocks.folder / "result"
            finished = FinishedBlocks(blocks.folder, plan.n_blocks, dict(opened.contigs))
            counts, segments = _write_files(folder, finished, calls, plotted, processes, progress)
            _draw(folder, plotted, segments, calls, transcripts)
            summary = _summary(
                fingerprint, genome, pipe, chosen, scans, plan, calls, counts, time.monotonic() - started
            )
            text = json.dumps(summary, indent=2, ensure_ascii=False)
            (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
            _put_in_place(folder, output)
        except KeyboardInterrupt:
            logger.warning("stopped; finished blocks are in %s: the same command goes on with them", blocks.folder)
            raise
        finally:
            blocks.close()
        blocks.remove()
    return SegmentedGenome(output, summary)


class _Plan:
    """The blocks of all stretches; made anew each time that they are asked for, since they are many."""

    def __init__(self, stretches: list[Stretch], settings: "WindowSettings") -> None:
        self._stretches = stretches
        self._settings = settings
        self.n_stretches = len(stretches)
        self.n_bases = sum(stretch.end - stretch.start for stretch in stretches)
        self.n_blocks = self.n_windows = 0
        for block in self.blocks():
            self.n_blocks += 1
            self.n_windows += sum(len(piece.windows) for piece in block)

    def blocks(self) -> Iterator[list[Piece]]:
        settings = self._settings
        return blocks_of(self._stretches, settings.window_bp, settings.overlap, batch_size=settings.batch_size)


def _segment_blocks(
    blocks: SegmentationBlocks,
    plan: _Plan,
    pipe: "DNASegmentationPipeline",
    genome: "Genome",
    settings: "WindowSettings",
    decimals: int | None,
    progress: bool,
) -> None:
    from tqdm import tqdm

    finished = [blocks.has(number) for number in range(plan.n_blocks)]
    if any(finished):
        logger.info("%s: %d of %d blocks are done already", blocks.folder, sum(finished), plan.n_blocks)
    n_finished = sum(_bases(block) for block, is_done in zip(plan.blocks(), finished, strict=True) if is_done)
    with tqdm(
        total=plan.n_bases, initial=n_finished, unit="bp", unit_scale=True, desc="segmenting", disable=not progress
    ) as bar:
        for number, block in enumerate(plan.blocks()):
            if not finished[number]:
                blocks.write(number, block, _rounded(pipe.segment_block(block, genome, settings), decimals))
                bar.update(_bases(block))


def _bases(block: Sequence[Piece]) -> int:
    return sum(piece.end - piece.start for piece in block)


def _rounded(arrays: Sequence[np.ndarray], decimals: int | None) -> list[np.ndarray]:
    return [rounded(array, decimals) for array in arrays]


def _write_files(
    folder: Path,
    blocks: FinishedBlocks,
    calls: CallOptions,
    plotted: Sequence[Region],
    processes: int,
    progress: bool,
) -> tuple[dict[str, ElementCounts], list[list[dict[str, Any]]]]:
    """Tracks, segments.bed and segments.tsv; what they hold, and the segments of each plotted region."""
    from tqdm import tqdm

    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped here
    (folder / TRACKS).mkdir(parents=True)
    elements = list(calls.thresholds)
    written = write_elements(blocks, folder, calls, processes=processes)
    bar = tqdm(written, total=len(elements), unit="element", desc="writing", disable=not progress)
    counts = dict(zip(elements, bar, strict=True))
    return counts, merge_segments(folder, elements, list(blocks.contigs), plotted=plotted)


def _draw(
    folder: Path,
    plotted: Sequence[Region],
    segments: Sequence[Sequence[dict[str, Any]]],
    calls: CallOptions,
    transcripts: "pd.DataFrame | None",
) -> None:
    """figures/<contig>_<first>-<last>.png and .svg, from the tracks."""
    import pandas as pd

    names = track_names(list(calls.thresholds))
    for region, rows in zip(plotted, segments, strict=True):
        columns = [read_bigwig(folder / TRACKS / name, *region) for name in names]
        canvas = draw_locus(
            np.column_stack(columns),
            pd.DataFrame(rows, columns=["start", "end", "element"]),
            calls.thresholds,
            contig=region.contig,
            start=region.start,
            annotation=transcripts,
        )
        (folder / FIGURES).mkdir(exist_ok=True)
        stem = f"{region.contig}_{region.start + 1}-{region.end}".replace("/", "_")
        for suffix in ("png", "svg"):
            save_figure(canvas, folder / FIGURES / f"{stem}.{suffix}")


def _open_genome(genome: str | Path, offsets: Mapping[str, int] | None, cache_folder: str | Path | None) -> "Genome":
    from .data_scripts.genomes import open_genome

    return open_genome(genome, offsets=offsets, cache_folder=cache_folder)


def _open_pipeline(
    model: "str | Path | DNASegmentationPipeline", device: str | None, dtype: str | None, trust_remote_code: bool
) -> "DNASegmentationPipeline":
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    from .pipelines.dna_segmentation import DNASegmentationPipeline

    if not isinstance(model, str | Path):
        return model
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    if config.model_type != "segment-nt":
        raise ValueError(
            f"{model} is a {config.model_type}, which has no segmentation head; expected a segment-nt, as "
            "run_segmentation.py trains it or `omics-transformers convert segment-nt` makes it of published weights"
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.device(device).type == "cuda"
    dtype = dtype or ("bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32")
    loaded, report = AutoModelForTokenClassification.from_pretrained(
        model, config=config, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{model} lacks {len(missing):,} tensors, e.g. {', '.join(missing[:3])}: it is no whole segment-nt; train "
            "its head first, or convert the checkpoint again"
        )
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    return DNASegmentationPipeline(loaded, tokenizer, device=device)


def _scan(genome: "Genome", regions: Sequence[Region], split_at_n: int, progress: bool) -> list[RegionScan]:
    from tqdm import tqdm

    bar = tqdm(regions, unit="region", desc="reading", disable=not progress)
    return [scan_region(genome, region, split_at_n=split_at_n) for region in bar]


def _require_bases(plan: _Plan, genome: str | Path) -> None:
    if plan.n_bases == 0:
        raise ValueError(f"{genome}: all bases of the regions are N: there is nothing to segment")


def _fingerprint(
    pipe: "DNASegmentationPipeline",
    settings: "WindowSettings",
    regions: Sequence[Region],
    scans: Sequence[RegionScan],
    decimals: int | None,
) -> dict[str, Any]:
    """All that the blocks depend on."""
    sequence = hashlib.sha256(
        json.dumps([[*region, scan.sha256] for region, scan in zip(regions, scans, strict=True)]).encode()
    )
    return {
        "model_sha256": _model_sha256(pipe.model),
        "sequence_sha256": sequence.hexdigest(),
        "regions": [str(region) for region in regions[:3]]
        + ([f"and {len(regions) - 3:,} more"] if regions[3:] else []),
        "window_bp": settings.window_bp,
        "overlap": settings.overlap,
        "batch_size": settings.batch_size,
        "reverse_complement": settings.reverse_complement,
        "split_at_n": settings.split_at_n,
        "decimals": decimals,
        "dtype": str(pipe.model.dtype).removeprefix("torch."),
        "device": pipe.device.type,
    }


def _model_sha256(model: Any) -> str:
    import torch

    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_OF_THE_MODEL}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _summary(
    fingerprint: Mapping[str, Any],
    genome: str | Path,
    pipe: "DNASegmentationPipeline",
    regions: Sequence[Region],
    scans: Sequence[RegionScan],
    plan: _Plan,
    calls: CallOptions,
    counts: Mapping[str, ElementCounts],
    seconds: float,
) -> dict[str, Any]:
    return {
        "model": pipe.model.name_or_path,
        "genome": str(genome),
        "n_regions": len(regions),
        "bases": sum(region.end - region.start for region in regions),
        "n_unknown_bases": sum(scan.n_unknown for scan in scans),
        "stretches": plan.n_stretches,
        "windows": plan.n_windows,
        "blocks": plan.n_blocks,
        "minimum_length": calls.minimum_length,
        "merge_gap": calls.merge_gap,
        "elements": {element: found.as_dict() for element, found in counts.items()},
        "settings": dict(fingerprint),
        "seconds": round(seconds, 1),
    }


def _require_room(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"{output} is a file: give the name of a folder")
    strange = sorted(entry.name for entry in output.iterdir() if entry.name not in FILES)
    if strange:
        raise FileExistsError(
            f"{output} holds other files, e.g. {strange[0]}, which would be lost: give another folder"
        )
    if not overwrite and any(output.iterdir()):
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")


def _put_in_place(folder: Path, output: Path) -> None:
    """An older result is moved aside first, so that one of the two always stands."""
    if not output.exists():
        folder.rename(output)
        return
    aside = folder.with_name("replaced")
    shutil.rmtree(aside, ignore_errors=True)
    output.rename(aside)
    folder.rename(output)
