"""Pipeline: which genomic elements lie where in a sequence, base by base, of any length.

Source: SegmentNT, de Almeida et al. 2025 (https://doi.org/10.1038/s41592-025-02881-2). Beyond it: overlapping windows
that are blended, N (long runs part the sequence, shorter ones are read and left without a value), both strands'
average, called segments, and their files.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForTokenClassification, Pipeline

from .fitting_tokenizer import require_fitting_tokenizer
from .segmentation_calls import resolve_thresholds
from .segmentation_input import GenomeLike, Region, RegionScan, find_region, open_input, scan_region
from .segmentation_result import SegmentationResult, Thresholds
from .segmentation_run import WindowProbabilities, WindowSettings, segment_block
from .segmentation_windows import LARGEST_OVERLAP, Piece, blocks_of, count_tokens

TASK = "dna-segmentation"
MODEL_CLASS = AutoModelForTokenClassification
DEFAULT_BATCH_SIZE = 8
DEFAULT_OVERLAP = 0.5
DEFAULT_SPLIT_AT_N = 12
# Published rescaling factors have three digits, and the inputs that they stand for may be a few tokens longer.
_ROUNDING_OF_FACTORS = 1.01


class DNASegmentationPipeline(Pipeline):
    """`pipeline("dna-segmentation", model=folder)("ACGT...").table()`."""

    # transformers declares these as None, and its tokenizer without what ours can do.
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = True
    _registered_impl: dict[str, Any]
    model: Any
    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.eval()
        require_segmentation_model(self.model.config)
        require_fitting_tokenizer(self.tokenizer, self.model.config)

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the elements, in the order of the logits."""
        labels = self.model.config.id2label
        return tuple(labels[number] for number in sorted(labels))

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        region: str | None = None,
        window_bp: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int | None = None,
        reverse_complement: bool = False,
        split_at_n: int = DEFAULT_SPLIT_AT_N,
        thresholds: Thresholds = None,
        progress: bool = False,
    ) -> SegmentationResult | list[SegmentationResult]:
        """Give each base a probability for each element.

        The result is held in memory, 4 bytes a base and element; `omics_transformers.segmentation.segment` writes whole
        chromosomes to files, in bounded memory.

        Args:
            inputs: a sequence (str or bytes), a list of sequences, the path of a FASTA file (not compressed), or a
                genome: any object with `fetch(contig, start, end) -> bytes`, `contigs` and `starts` (see `GenomeLike`).
            region: of a genome or FASTA file: `chr20:1,000-2,000` as genome browsers write it (1-based, both positions
                included), or a contig's name for all of it; may be left out where there is one contig.
            window_bp: length of the windows; by default what the model was trained on, or as long as it takes.
            overlap: share of a window that the next one holds too, at least; 0 to 0.95.
            batch_size: windows that go through the model together; 8 where None.
            reverse_complement: average with what the model says of the other strand; twice the work.
            split_at_n: runs of N this long or longer, in bp, part the sequence; shorter ones go through the model.
            thresholds: probability from which a base is called: one number, element -> number, or one an element; by
                default the model's own (`config.thresholds`), or 0.5.
            progress: show a progress bar, in bases.

        Returns:
            SegmentationResult: `.probabilities`, `.table()`, `.to_bigwig(folder)`, `.to_bed(path)`, `.plot(path)`;
            for a list, a list of them.

        Raises:
            ValueError: before any work, for letters that are not DNA (with position), an empty sequence, an unknown
                contig, a region beyond it, windows longer than the model takes, and numbers out of range.
        """
        settings = self.window_settings(
            window_bp=window_bp,
            overlap=overlap,
            batch_size=batch_size,
            reverse_complement=reverse_complement,
            split_at_n=split_at_n,
        )
        chosen = self.thresholds(thresholds)
        genome, source = open_input(inputs)
        if not isinstance(inputs, list | tuple):
            places = [find_region(genome, region, source)]
        elif region is None:
            places = [find_region(genome, contig, source) for contig in genome.contigs]
        else:
            raise ValueError(f"region {region!r} was given with a list of sequences: cut the sequences instead")
        scans = [scan_region(genome, place, split_at_n=split_at_n) for place in places]
        results = self._results(genome, places, scans, settings, chosen, progress)
        return results if isinstance(inputs, list | tuple) else results[0]

    def window_settings(
        self,
        *,
        window_bp: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int | None = None,
        reverse_complement: bool = False,
        split_at_n: int = DEFAULT_SPLIT_AT_N,
    ) -> WindowSettings:
        """Settings that fit the model; arguments as in a call.

        Raises:
            ValueError: for windows longer than the model takes, and numbers out of range.
        """
        config = self.model.config
        factor = config.rescaling_factor
        most_tokens = (
            config.max_tokens if factor is None else math.ceil(config.max_tokens * factor * _ROUNDING_OF_FACTORS)
        )
        chosen = window_bp if window_bp is not None else config.window_bp or self._longest_window()
        _require_window(chosen, config.kmer_size, most_tokens, factor)
        chosen_batch = batch_size if batch_size is not None else self._batch_size or DEFAULT_BATCH_SIZE
        _require_numbers(overlap, chosen_batch, split_at_n)
        return WindowSettings(
            chosen, float(overlap), chosen_batch, bool(reverse_complement), split_at_n, most_tokens, config.kmer_size
        )

    def thresholds(self, thresholds: Thresholds = None) -> dict[str, float]:
        """Element -> probability from which a base is called: as given, else the model's own, else 0.5."""
        return resolve_thresholds(thresholds, self.elements, getattr(self.model.config, "thresholds", None))

    def segment_block(self, block: Sequence[Piece], genome: GenomeLike, settings: WindowSettings) -> list[np.ndarray]:
        """Probabilities of a block of `blocks_of`: (bases, elements) float32 a piece, NaN at N."""
        with self.device_placement(), torch.inference_mode():
            return segment_block(block, genome, self._predict, settings, len(self.elements))

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model, tokenizer and this pipeline's code, so that the folder works without the package."""
        super().save_pretrained(save_directory, **options)
        self.model.config.__dict__.pop("custom_pipelines", None)  # the code lies in that folder only

    def preprocess(self, input_: Sequence[bytes], **options: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]  # noqa: ARG002
        """Upper-case ACGTN windows to input_ids and attention_mask, (windows, tokens) each, on the model's device."""
        encoded = self.tokenizer.encode_batch_bases(input_)
        return {name: torch.from_numpy(values).to(self.device) for name, values in encoded.items()}

    def _forward(self, input_tensors: dict[str, torch.Tensor], **options: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        return self.model(**input_tensors)

    def postprocess(self, model_outputs: Any, **options: Any) -> WindowProbabilities:  # noqa: ARG002
        """Logits to probabilities: the softmax over two numbers is the sigmoid of their difference."""
        absent, present = model_outputs.logits.float().unbind(-1)
        probabilities = torch.sigmoid(present - absent)
        return WindowProbabilities(probabilities.cpu().numpy(), model_outputs.base_mask.cpu().numpy())

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if parameters:
            raise ValueError(f"unknown options of the pipeline: {', '.join(parameters)}; give options with each call")
        return {}, {}, {}

    def _predict(self, sequences: Sequence[bytes]) -> WindowProbabilities:
        return self.postprocess(self._forward(self.preprocess(sequences)))

    def _longest_window(self) -> int:
        """As many k-mers as the model takes beside <cls>, in bp: a multiple of what its U-Net divides by."""
        config = self.model.config
        kmers = round(config.max_tokens * (config.rescaling_factor or 1)) - 1
        multiple = 2 ** len(config.unet_channels)
        return max(kmers - kmers % multiple, 1) * config.kmer_size

    def _results(
        self,
        genome: GenomeLike,
        regions: Sequence[Region],
        scans: Sequence[RegionScan],
        settings: WindowSettings,
        thresholds: dict[str, float],
        progress: bool,
    ) -> list[SegmentationResult]:
        arrays = [np.full((place.end - place.start, len(self.elements)), np.nan, np.float32) for place in regions]
        number_of = {place.contig: number for number, place in enumerate(regions)}  # one region a contig
        stretches = [stretch for scan in scans for stretch in scan.stretches]
        blocks = blocks_of(stretches, settings.window_bp, settings.overlap, batch_size=settings.batch_size)
        for piece, probabilities in self._pieces(blocks, genome, settings, stretches_bp(stretches), progress):
            number = number_of[piece.contig]
            offset = regions[number].start
            arrays[number][piece.start - offset : piece.end - offset] = probabilities
        return [
            SegmentationResult(
                array,
                self.elements,
                place.contig,
                place.start,
                genome.contigs[place.contig],
                thresholds,
                self._summary(settings, scan),
            )
            for array, place, scan in zip(arrays, regions, scans, strict=True)
        ]

    def _pieces(
        self, blocks: Iterable[list[Piece]], genome: GenomeLike, settings: WindowSettings, n_bases: int, progress: bool
    ) -> Iterable[tuple[Piece, np.ndarray]]:
        with tqdm(total=n_bases, unit="bp", unit_scale=True, desc="segmenting", disable=not progress) as bar:
            for block in blocks:
                for piece, probabilities in zip(block, self.segment_block(block, genome, settings), strict=True):
                    yield piece, probabilities
                    bar.update(piece.end - piece.start)

    def _summary(self, settings: WindowSettings, scan: RegionScan) -> dict[str, Any]:
        return {
            "model": self.model.name_or_path,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "window_bp": settings.window_bp,
            "overlap": settings.overlap,
            "reverse_complement": settings.reverse_complement,
            "split_at_n": settings.split_at_n,
            "stretches": len(scan.stretches),
            "n_unknown_bases": scan.n_unknown,
        }


# So that saving the pipeline saves its code, also where nobody has registered the task.
DNASegmentationPipeline._registered_impl = {
    TASK: {"impl": DNASegmentationPipeline, "pt": (MODEL_CLASS,), "type": "multimodal"}
}


def stretches_bp(stretches: Iterable[tuple[str, int, int]]) -> int:
    """Bases of all stretches together."""
    return sum(end - start for _, start, end in stretches)


def require_segmentation_model(config: Any, name: str = "the model") -> None:
    """Raise ValueError for the configuration of another kind of model."""
    lacking = [name for name in ("kmer_size", "max_tokens", "unet_channels") if not hasattr(config, name)]
    if config.model_type != "segment-nt" or lacking:
        raise ValueError(
            f"{name} is a {config.model_type}, which has no segmentation head; expected a segment-nt, as "
            "run_segmentation.py trains it or `omics-transformers convert segment-nt` makes it of published weights"
        )


def _require_window(window_bp: int, kmer_size: int, most_tokens: int, factor: float | None) -> None:
    if window_bp < kmer_size:
        raise ValueError(f"window_bp is {window_bp}: expected {kmer_size} (a k-mer) or more")
    tokens = count_tokens(b"A" * window_bp, kmer_size)
    if tokens > most_tokens:
        raise ValueError(
            f"windows of {window_bp:,} bp are {tokens:,} tokens, and the model takes {most_tokens:,}"
            + (f" at its rescaling_factor {factor:g}" if factor is not None else "")
            + f": give window_bp up to {(most_tokens - 1) * kmer_size:,}, or set config.rescaling_factor to {tokens:,} "
            "divided by the tokens that it was trained with"
        )


def _require_numbers(overlap: float, batch_size: int, split_at_n: int) -> None:
    if not 0 <= overlap <= LARGEST_OVERLAP:
        raise ValueError(f"overlap is {overlap}: expected a share of the window from 0 to {LARGEST_OVERLAP}")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more windows")
    if split_at_n < 1:
        raise ValueError(f"split_at_n is {split_at_n}: expected 1 bp or more")
