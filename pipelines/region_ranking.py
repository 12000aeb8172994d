"""Pipeline: how accessible the chromatin of regions of DNA is, as scores that put them in order.

Source: "Region Ranking on scATAC", chapter 3. A region's score depends on its own sequence only; lists of regions
matter in training alone. Training compares regions of one span and cell type, of some 3 kb: how well scores order
regions that lie further apart has to be measured. Beyond the source: both strands' average, several places of the
padding, variants, and tracks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, Pipeline

from .fitting_tokenizer import require_fitting_tokenizer
from .region_ranking_input import LongRegions, fit_regions, open_genome_like, read_regions
from .region_ranking_result import RegionRanking, make_ranking
from .region_ranking_run import Score, ScoreSettings, score_sequences
from .region_ranking_track import (
    ScoreTrack,
    StepCounts,
    TrackSettings,
    count_steps,
    require_track_options,
    track_pieces,
)
from .region_ranking_variants import RegionVariantEffects, require_phases, require_region_bp, score_variants
from .region_tokens import TokenLimit, place_tokens
from .segmentation_input import GenomeLike, Region, find_region
from .segmentation_tracks import TrackPiece
from .variant_windows import Variant, parse_variant

TASK = "region-ranking"
MODEL_CLASS = AutoModel
DEFAULT_BATCH_SIZE = 16
DEFAULT_REGION_BP = 500
STEPS_A_REGION = 5
_REGIONS_A_BLOCK = 1_024


class RegionRankingPipeline(Pipeline):
    """`pipeline("region-ranking", model=folder)(["chr20:1,001-1,500"], genome="hg38.fa").regions`."""

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
        require_region_ranker(self.model.config)
        require_fitting_tokenizer(self.tokenizer, self.model.config)

    @property
    def limit(self) -> TokenLimit:
        """What the model takes."""
        return TokenLimit(self.model.config.num_tokens, self.model.config.kmer_size)

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        genome: Any = None,
        cell_type: str | None = None,
        padding_draws: int = 1,
        reverse_complement: bool = False,
        long_regions: LongRegions = "error",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> RegionRanking:
        """Score regions and put them in order.

        Args:
            inputs: sequences (str or bytes); or, with a genome, regions of it: each `chr20:1,001-1,500` as genome
                browsers write it (1-based, both positions included), a contig's name, or (contig, start, end[, name])
                with 0-based, half-open coordinates; or a data frame with these columns. Equal sequences are scored
                once.
            genome: path of a FASTA file (not compressed), or what the package's `open_genome` returns.
            cell_type: one of `model.config.cell_types`, where the model's scores depend on the cell type.
            padding_draws: places of the padding, evenly spread, whose scores are averaged. 1: at the end. A model that
                was trained with random padding may profit from more, for as many times the work.
            reverse_complement: average with the score of the other strand; twice the work.
            long_regions: what becomes of regions with more tokens than the model takes: "error", or "center": the piece
                in their middle is scored.
            batch_size: regions that go through the model together; 16 where None.
            progress: show a progress bar, in regions.

        Returns:
            RegionRanking: `.regions`, a data frame with contig, start, end, name, score and rank (1 the most
            accessible); `.scores`, `.to_bed(path)`, `.figure()`, `.summary`. Regions of nothing but N have no score.

        Raises:
            ValueError: before the model runs, for letters that are not DNA, unknown contigs, regions beyond them or too
                long, no region at all, a cell type that is unknown, missing or of no use, and numbers out of range.
        """
        settings = self.score_settings(
            cell_type=cell_type,
            padding_draws=padding_draws,
            reverse_complement=reverse_complement,
            batch_size=batch_size,
        )
        opened, regions = read_regions(inputs, genome)
        parts = fit_regions(opened, regions, self.limit, long_regions=long_regions)
        is_scored = (parts.n_unknown < parts.ends - parts.starts) & (parts.same_as == np.arange(len(regions)))
        chosen = np.flatnonzero(is_scored)
        scores = np.full(len(regions), np.nan, dtype=np.float32)
        with tqdm(total=len(chosen), unit="region", desc="regions", disable=not progress) as bar:
            score = self.scorer(settings, advance=bar.update)
            for first in range(0, len(chosen), _REGIONS_A_BLOCK):
                block = chosen[first : first + _REGIONS_A_BLOCK]
                places = [(regions[number].region.contig, parts.starts[number], parts.ends[number]) for number in block]
                scores[block] = score([opened.fetch(contig, int(start), int(end)) for contig, start, end in places])
        summary = {**self.summary(settings), "long_regions": long_regions}
        return make_ranking(regions, parts, scores[parts.same_as], summary)

    def variants(
        self,
        variants: Sequence[str | Variant],
        genome: Any,
        *,
        region_bp: int | None = None,
        phases: int = 1,
        cell_type: str | None = None,
        padding_draws: int = 1,
        reverse_complement: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> RegionVariantEffects:
        """Score the region around each variant with the reference and with the alternative allele.

        Args:
            variants: `chr20:1000:A>G` each, 1-based, or of `variants_of_rows`; insertions and deletions with the base
                in front, as in a VCF.
            genome: as in a call.
            region_bp: length of the region around each variant, in the reference; that of the regions that the model
                was trained on, or 500, where None.
            phases: how many first bases each allele is read from, scores averaged: 1 to the model's k.
            cell_type, padding_draws, reverse_complement, batch_size, progress: as in a call.

        Returns:
            RegionVariantEffects: `.variants`, `.not_scored` and `.summary`.

        Raises:
            ValueError: before the model runs, as in a call, on reference alleles that differ from the genome's, and on
                variants that cannot be read.
        """
        settings = self.score_settings(
            cell_type=cell_type,
            padding_draws=padding_draws,
            reverse_complement=reverse_complement,
            batch_size=batch_size,
        )
        found = score_variants(
            [parse_variant(variant) if isinstance(variant, str) else variant for variant in variants],
            open_genome_like(genome)[0],
            self.scorer(settings),
            self.limit,
            region_bp=self.region_bp(region_bp),
            phases=phases,
            progress=progress,
        )
        return RegionVariantEffects(found.variants, found.not_scored, {**self.summary(settings), **found.summary})

    def track(
        self,
        region: str | Region,
        genome: Any,
        *,
        region_bp: int | None = None,
        step_bp: int | None = None,
        maximum_unknown: float = 0.5,
        cell_type: str | None = None,
        padding_draws: int = 1,
        reverse_complement: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> ScoreTrack:
        """Score a locus step by step, in memory; the command `rank` writes whole chromosomes, in bounded memory.

        Args:
            region: `chr20:1,000,001-1,100,000` (1-based, both positions included), or a contig's name.
            genome: as in a call.
            region_bp: length of the region that is centred on each step; as in `variants` where None.
            step_bp: bases that share a value; a fifth of `region_bp` where None.
            maximum_unknown: steps whose region has a larger share of N have no value.
            cell_type, padding_draws, reverse_complement, batch_size, progress: as in a call.

        Returns:
            ScoreTrack: `.values`, `.to_bigwig(path)` and `.summary`.

        Raises:
            ValueError: before the model runs, as in a call.
        """
        settings = self.score_settings(
            cell_type=cell_type,
            padding_draws=padding_draws,
            reverse_complement=reverse_complement,
            batch_size=batch_size,
        )
        steps = self.track_settings(region_bp=region_bp, step_bp=step_bp, maximum_unknown=maximum_unknown)
        opened, source = open_genome_like(genome)
        locus = find_region(opened, region, source)
        counts = self.count_steps(locus, opened, steps)
        with tqdm(total=counts.scored, unit="step", desc="track", disable=not progress) as bar:
            pieces = self.track_pieces(locus, opened, steps, settings, advance=bar.update)
            values = np.concatenate([piece.values for piece in pieces])
        summary = {**self.summary(settings), **steps._asdict(), **counts.as_dict()}
        return ScoreTrack(values, locus.contig, locus.start, opened.contigs[locus.contig], summary)

    def score_settings(
        self,
        *,
        cell_type: str | None = None,
        padding_draws: int = 1,
        reverse_complement: bool = False,
        batch_size: int | None = None,
    ) -> ScoreSettings:
        """Settings that fit the model, or a ValueError; arguments as in a call."""
        chosen_batch = batch_size if batch_size is not None else self._batch_size or DEFAULT_BATCH_SIZE
        if chosen_batch < 1:
            raise ValueError(f"batch_size is {chosen_batch}: expected 1 or more regions")
        if padding_draws < 1:
            raise ValueError(f"padding_draws is {padding_draws}: expected 1 (padding at the end) or more places of it")
        number = _cell_type_id(self.model.config.cell_types, cell_type)
        return ScoreSettings(self.limit, cell_type, number, padding_draws, bool(reverse_complement), chosen_batch)

    def region_bp(self, region_bp: int | None = None) -> int:
        """Length of the regions around variants and steps: as given, else the model's own, else 500 or what it takes.

        Raises:
            ValueError: where the model does not take it.
        """
        limit = self.limit
        if region_bp is not None:
            require_region_bp(region_bp, limit)
            return region_bp
        chosen = min(self.model.config.region_bp or DEFAULT_REGION_BP, limit.longest_bp)
        return chosen if limit.takes(b"A" * chosen) else chosen - chosen % limit.kmer_size  # loose letters are tokens

    def require_phases(self, phases: int) -> None:
        """Raise ValueError for more first bases than a k-mer has."""
        require_phases(phases, self.limit)

    def track_settings(
        self, *, region_bp: int | None = None, step_bp: int | None = None, maximum_unknown: float = 0.5
    ) -> TrackSettings:
        """Settings that fit the model, or a ValueError; arguments as `track`."""
        length = self.region_bp(region_bp)
        step = step_bp if step_bp is not None else max(length // STEPS_A_REGION, 1)
        settings = TrackSettings(length, step, maximum_unknown)
        require_track_options(settings)
        return settings

    def count_steps(self, locus: Region, genome: GenomeLike, steps: TrackSettings) -> StepCounts:
        """How many steps a locus has, and how many of them have no value; the model does not run."""
        return count_steps(locus, genome, self.limit, steps)

    def track_pieces(
        self,
        locus: Region,
        genome: GenomeLike,
        steps: TrackSettings,
        settings: ScoreSettings,
        *,
        advance: Callable[[int], object],
    ) -> Iterator[TrackPiece]:
        """Scores along a locus, piece by piece; `advance` is told how many steps have been scored."""
        return track_pieces(locus, genome, self.scorer(settings, advance=advance), self.limit, steps)

    def scorer(
        self,
        settings: ScoreSettings,
        *,
        advance: Callable[[int], object] = lambda n_sequences: None,  # noqa: ARG005
    ) -> Score:
        """A function from upper-case ACGTN sequences, within the model's limit, to (sequences,) float32 scores."""
        return lambda sequences: score_sequences(sequences, self._predict, settings, advance=advance)

    def summary(self, settings: ScoreSettings) -> dict[str, Any]:
        """What scores depend on, for a result's summary."""
        return {
            "model": self.model.name_or_path,
            "cell_type": settings.cell_type,
            "padding_draws": settings.padding_draws,
            "reverse_complement": settings.reverse_complement,
        }

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model, tokenizer and this pipeline's code, so that the folder works without the package."""
        super().save_pretrained(save_directory, **options)
        self.model.config.__dict__.pop("custom_pipelines", None)  # the code lies in that folder only

    def preprocess(  # type: ignore[override]
        self,
        input_: Sequence[bytes],
        padding_share: float = 0.0,
        **options: Any,  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """Regions to input_ids and attention_mask, (regions, 1, tokens) each: every region is a list of its own."""
        tokens = self.tokenizer.encode_batch_bases(input_, padding=False)["input_ids"]
        # The model takes what is missing at the end as padding.
        num_tokens = self.limit.num_tokens if padding_share else max(map(len, tokens))
        placed = place_tokens(tokens, padding_share, num_tokens=num_tokens, pad_token_id=self.model.config.pad_token_id)
        names = ("input_ids", "attention_mask")
        return {
            name: torch.from_numpy(array).unsqueeze(1).to(self.device)
            for name, array in zip(names, placed, strict=True)
        }

    def _forward(self, input_tensors: dict[str, torch.Tensor], **options: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        return self.model(**input_tensors)

    def postprocess(self, model_outputs: Any, **options: Any) -> np.ndarray:  # noqa: ARG002
        """(regions,) float32 scores."""
        return model_outputs.scores[:, 0].float().cpu().numpy()

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if parameters:
            raise ValueError(f"unknown options of the pipeline: {', '.join(parameters)}; give options with each call")
        return {}, {}, {}

    def _predict(self, sequences: Sequence[bytes], padding_share: float, cell_type_id: int | None) -> np.ndarray:
        # Inference mode belongs to a thread, and bigWigs are written by another than the caller's.
        with self.device_placement(), torch.inference_mode():
            inputs = self.preprocess(sequences, padding_share)
            if cell_type_id is not None:
                inputs["cell_type_ids"] = torch.full((len(sequences),), cell_type_id, device=self.device)
            return self.postprocess(self._forward(inputs))


# So that saving the pipeline saves its code, also where nobody has registered the task.
RegionRankingPipeline._registered_impl = {
    TASK: {"impl": RegionRankingPipeline, "pt": (MODEL_CLASS,), "type": "multimodal"}
}


def require_region_ranker(config: Any, name: str = "the model") -> None:
    """Raise ValueError for the configuration of another kind of model."""
    if config.model_type != "nt-region-ranker":
        raise ValueError(
            f"{name} is a {config.model_type}, which does not score regions; expected an nt-region-ranker, as "
            "run_region_ranking.py trains it"
        )


def _cell_type_id(cell_types: Sequence[str] | None, cell_type: str | None) -> int | None:
    if cell_types is None:
        if cell_type is not None:
            raise ValueError(f"cell_type is {cell_type!r}, and this model's scores depend on none: leave it out")
        return None
    if cell_type is None or cell_type not in cell_types:
        found = "the cell type is missing" if cell_type is None else f"the model knows no cell type {cell_type!r}"
        raise ValueError(f"{found}: give cell_type (--cell-type), one of {', '.join(cell_types)}")
    return list(cell_types).index(cell_type)
