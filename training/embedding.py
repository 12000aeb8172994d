"""DNA to gene features: every gene's promoter, and every distinct donor haplotype, through Enformer once.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "DNA features". The work is
cut into parts that are saved as they are done, dealt to the processes of accelerate, and joined into one file at the
end. A content hash over weights, sequences and settings tells finished work that can be used again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from tqdm import tqdm

from ..data_scripts.annotations import TSSChoice, read_tss
from ..data_scripts.donor_variants import read_donor_variants
from ..data_scripts.gene_features import GeneFeatures, read_gene_features, write_gene_features
from ..data_scripts.genomes import Genome, open_genome
from ..data_scripts.promoters import (
    DonorPromoters,
    PromoterWindows,
    donor_promoters,
    one_hot,
    promoter_windows,
)
from ..data_scripts.sequence_variants import check_variants
from ..modeling.modeling_enformer import EnformerForGeneFeatures, Layer
from .embedding_parts import EmbeddingParts

logger = logging.getLogger(__name__)

# The metadata that are part of the content hash; where the model was read from is not.
_HASHED = (
    "assembly",
    "window_bp",
    "layer",
    "pool",
    "orient_by_strand",
    "tss_choice",
    "compute_dtype",
    "features_dtype",
)


def embed_promoters(
    fasta: str | Path,
    annotation: str | Path,
    output: str | Path,
    *,
    model: str | Path | EnformerForGeneFeatures,
    vcf: str | Path | None = None,
    window_bp: int = 196_608,
    layer: Layer = "final_pointwise",
    pool: Literal["all"] | int = "all",
    batch_size: int = 1,
    dtype: Literal["float32", "bfloat16"] | None = None,
    features_dtype: Literal["float32", "float16"] = "float32",
    tss_choice: TSSChoice = "canonical",
    orient_by_strand: bool = False,
    gene_ids: Sequence[str] | None = None,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    protein_coding_only: bool = False,
    missing_contigs: Literal["error", "drop"] = "error",
    beyond_contig: Literal["error", "drop"] = "error",
    alternative_contigs: Literal["drop", "keep"] = "drop",
    table_coordinates: Literal["0-based", "1-based"] = "0-based",
    offsets: Mapping[str, int] | None = None,
    unphased: Literal["error", "as_written"] = "error",
    missing_genotypes: Literal["error", "reference", "drop"] = "error",
    other_variants: Literal["error", "drop"] = "error",
    overlapping: Literal["error", "first"] = "error",
    unsorted: Literal["error", "sort"] = "error",
    haplotypes: Literal["mean", "separate"] = "mean",
    assembly: str | None = None,
    cache_folder: str | Path | None = None,
    part_size: int = 32,
    overwrite: bool = False,
    progress: bool = True,
) -> GeneFeatures:
    """Make the file of gene features.

    The file's metadata say how it was made; `report` (JSON) counts what was left out on the way.
    Under `accelerate launch` each process does its share, and all return the result. A run that was stopped goes on
    where it was; a finished file with the same content hash is returned as it is.

    Args:
        fasta, annotation: as `open_genome` and `read_tss`.
        output: the .safetensors file; unfinished parts lie in the folder `<output>.parts` beside it.
        model: an Enformer: folder, Hub repository, or the model itself, in float32.
        vcf: donors' phased variants of every kind; adds a row for each distinct promoter that differs from the
            reference. Each distinct haplotype goes through the model once, however many donors share it.
        window_bp: length of the windows; a multiple of the model's bases per position.
        layer, pool: as `EnformerForGeneFeatures.gene_features`.
        batch_size: windows that go through the model together.
        dtype: in which the model computes: by default bfloat16 (autocast) on a GPU without a VCF, else float32: what
            one variant changes is near bfloat16's rounding.
        features_dtype: of `features` in the file; float32 with donors.
        tss_choice, gene_symbols, protein_coding_only, alternative_contigs, table_coordinates: as `read_tss`.
        orient_by_strand, missing_contigs, beyond_contig: as `promoter_windows`.
        gene_ids: only these genes; those that the annotation lacks are logged.
        offsets, cache_folder: as `open_genome`.
        unphased, missing_genotypes, other_variants, overlapping, unsorted: as `read_donor_variants`.
        haplotypes: whether a donor's row is the mean of the two haplotypes' features or each haplotype keeps its own
            (`donor_feature_index` is then (donors, genes, 2)). `read_gene_features` takes the mean unless told not to.
        assembly: a name for the metadata, e.g. GRCh38.
        part_size: windows in a part; what a stopped run loses at most, for each process.
        overwrite: replace a file, or parts, that were made from something else.
        progress: show a progress bar.

    Raises:
        FileExistsError: where the file, or unfinished parts, come from other weights, sequences or settings.
        ValueError, FileNotFoundError: for input that the functions named above refuse; before anything is computed.
    """
    output = Path(output)
    _check_settings(output, batch_size, part_size, dtype, features_dtype, haplotypes, vcf)
    process = process_state()
    tss = read_tss(
        annotation,
        tss_choice=tss_choice,
        gene_symbols=gene_symbols,
        protein_coding_only=protein_coding_only,
        alternative_contigs=alternative_contigs,
        table_coordinates=table_coordinates,
    )
    report = tss.attrs["report"]
    if gene_ids is not None:
        tss = _only_these(tss, gene_ids)
        report["gene_ids given"] = len(set(gene_ids))
    with open_genome(fasta, offsets=offsets, cache_folder=cache_folder) as genome:
        windows = promoter_windows(
            genome,
            tss,
            window_bp=window_bp,
            orient_by_strand=orient_by_strand,
            missing_contigs=missing_contigs,
            beyond_contig=beyond_contig,
        )
        policies = {
            "unphased": unphased,
            "missing_genotypes": missing_genotypes,
            "other_variants": other_variants,
            "overlapping": overlapping,
            "unsorted": unsorted,
        }
        donors = None if vcf is None else _read_donors(vcf, genome, windows, policies)
        sequences = PromoterSequences(windows, donors)
        embedder = _Embedder(model, process.device, layer, pool, _resolve_dtype(dtype, process.device, vcf))
        embedder.check(window_bp)
        metadata = {
            "assembly": assembly or "",
            "window_bp": str(window_bp),
            "layer": layer,
            "pool": str(pool),
            "model": embedder.name,
            "weights_origin": embedder.model.config.weights_origin or "",
            "orient_by_strand": str(orient_by_strand).lower(),
            "tss_choice": report["tss_choice"],
            "compute_dtype": embedder.dtype,
            "features_dtype": features_dtype,
        }
        if donors is not None:
            metadata["haplotypes"] = haplotypes
        metadata["content_hash"] = _content_hash(embedder, sequences, metadata)
        metadata["report"] = json.dumps(_report(report, sequences))
        if _is_finished(output, metadata["content_hash"], overwrite):
            logger.info("%s is up to date: nothing to compute", output)
            return read_gene_features(output, haplotypes="as_written")
        parts = EmbeddingParts(output, metadata, len(sequences), part_size)
        parts.check(overwrite=overwrite)
        _in_turn(process, parts.open)
        _compute(embedder, sequences, parts, process, batch_size=batch_size, progress=progress)
    process.wait_for_everyone()
    if process.is_main_process:
        gene_features = _join(parts.read_all(), windows, donors, metadata)
        write_gene_features(output, gene_features, dtype=features_dtype)
        parts.remove()
    process.wait_for_everyone()
    return read_gene_features(output, haplotypes="as_written")


def process_state() -> PartialState:
    """Accelerate's view of this process. Left to itself it takes each of several CPU processes for the only one."""
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=use_cpu)


@dataclass
class PromoterSequences:
    """All windows to embed: the reference's of each gene, then the donors' distinct haplotypes."""

    windows: PromoterWindows
    donors: DonorPromoters | None

    def __len__(self) -> int:
        return len(self.windows) + (0 if self.donors is None else len(self.donors.haplotype_genes))

    def __getitem__(self, number: int) -> bytes:
        if number < len(self.windows):
            return self.windows.sequence(number)
        assert self.donors is not None
        return self.donors.sequence(self.windows, number - len(self.windows))


class _Embedder:
    """The model with its settings: sequences in, features out."""

    def __init__(
        self,
        model: str | Path | EnformerForGeneFeatures,
        device: torch.device,
        layer: Layer,
        pool: Literal["all"] | int,
        dtype: str,
    ) -> None:
        if isinstance(model, str | Path):
            self.name = str(model)
            model = EnformerForGeneFeatures.from_pretrained(str(model), dtype=torch.float32)
        else:
            self.name = str(model.config._name_or_path) or "given in memory"
        self.model = model.to(device).eval()
        self.layer, self.pool, self.dtype = layer, pool, dtype

    def check(self, window_bp: int) -> None:
        """Refuse a window, layer or pool that the model cannot take, before anything is computed."""
        self.model.feature_size(self.layer)
        self.model.check_window(torch.empty(1, window_bp, 4, device="meta"), self.pool)

    @torch.inference_mode()
    def __call__(self, sequences: list[bytes]) -> np.ndarray:
        encoded = torch.from_numpy(one_hot(sequences))
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"):
            features = self.model.gene_features(encoded, layer=self.layer, pool=self.pool)
        return features.cpu().numpy()


def _compute(
    embedder: _Embedder,
    sequences: PromoterSequences,
    parts: EmbeddingParts,
    process: PartialState,
    *,
    batch_size: int,
    progress: bool,
) -> None:
    """Every process its share of the parts. Batches are the same however many processes there are."""
    missing = set(parts.missing())
    mine = [part for part in parts.all[process.process_index :: process.num_processes] if part in missing]
    todo = sum(len(part) for part in mine)
    logger.info(
        "%d of %d windows to compute, %d of them here, over %d processes",
        sum(len(part) for part in missing),
        len(sequences),
        todo,
        process.num_processes,
    )
    with tqdm(total=todo, unit="window", disable=not (progress and process.is_main_process)) as bar:
        for part in mine:
            batches = [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
            rows = []
            for batch in batches:
                rows.append(embedder([sequences[number] for number in batch]))
                bar.update(len(batch))
            parts.write(part, np.concatenate(rows))


def _join(
    rows: np.ndarray, windows: PromoterWindows, donors: DonorPromoters | None, metadata: dict[str, str]
) -> GeneFeatures:
    gene_ids = windows.genes["gene_id"].tolist()
    features, haplotypes = rows[: len(windows)], rows[len(windows) :]
    if donors is None:
        return GeneFeatures(gene_ids, features, metadata)
    separate = GeneFeatures(
        gene_ids,
        features,
        metadata,
        donors=list(donors.donors),
        donor_features=haplotypes,
        donor_feature_genes=donors.haplotype_genes,
        donor_feature_index=donors.haplotype_index,
    )
    return separate if metadata["haplotypes"] == "separate" else separate.with_mean_haplotypes()


def _read_donors(vcf: str | Path, genome: Genome, windows: PromoterWindows, policies: dict[str, Any]) -> DonorPromoters:
    variants = read_donor_variants(vcf, windows=windows.genes, **policies)
    if not len(variants):
        logger.warning("%s has no variant in reach of any window: all donors are as the reference", vcf)
    check_variants(variants.variants, genome)
    return donor_promoters(windows, variants)


def _report(annotation_report: dict, sequences: PromoterSequences) -> dict:
    """What was read and what was left out, for the metadata."""
    windows, donors = sequences.windows, sequences.donors
    report = {"annotation": annotation_report, "genes": len(windows), "left out": windows.report}
    report["IUPAC letters read as N"] = windows.genome.ambiguous_letters
    if donors is not None:
        report["variants"] = donors.variants.report
        report["distinct haplotypes"] = len(donors.haplotype_genes)
    return report


def _content_hash(embedder: _Embedder, sequences: PromoterSequences, metadata: dict[str, str]) -> str:
    """Of everything that the file's numbers depend on, less the batch size, which moves them by rounding only."""
    digest = hashlib.sha256()
    digest.update(json.dumps([metadata[name] for name in _HASHED]).encode())
    for chunk in _contents(embedder.model, sequences, metadata.get("haplotypes")):
        digest.update(chunk)
    return digest.hexdigest()


def _contents(model: EnformerForGeneFeatures, sequences: PromoterSequences, haplotypes: str | None) -> Iterator[bytes]:
    config = model.config
    yield json.dumps([config.heads, config.target_length, config.num_downsamples, config.use_tf_gamma]).encode()
    for name, tensor in sorted(model.state_dict().items()):
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
        yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    yield json.dumps(sequences.windows.genes["gene_id"].tolist()).encode()
    for number in range(len(sequences)):
        yield sequences[number]
    if sequences.donors is not None:
        yield json.dumps(sequences.donors.donors).encode()
        yield sequences.donors.promoter_haplotypes.tobytes()
        yield sequences.donors.index.tobytes()
        if haplotypes == "separate":
            yield sequences.donors.haplotype_index.tobytes()


def _is_finished(output: Path, content_hash: str, overwrite: bool) -> bool:
    if not output.exists():
        return False
    try:
        found = read_gene_features(output).metadata.get("content_hash")
    except ValueError:
        found = None
    if found != content_hash and not overwrite:
        raise FileExistsError(
            f"{output} exists, made from other weights, sequences or settings: name another file, or pass overwrite "
            "(--overwrite) to replace it"
        )
    return found == content_hash


def _in_turn(process: PartialState, action: Callable[[], None]) -> None:
    """All processes have looked at the disk before the main one changes it, and go on when it has."""
    process.wait_for_everyone()
    if process.is_main_process:
        action()
    process.wait_for_everyone()


def _only_these(tss: pd.DataFrame, gene_ids: Sequence[str]) -> pd.DataFrame:
    wanted = set(gene_ids)
    kept = tss[tss["gene_id"].isin(wanted)]
    if kept.empty:
        raise ValueError(
            f"none of the {len(wanted):,} gene_ids is in the annotation, whose ids are like "
            f"{tss['gene_id'].iloc[0]}: are both Ensembl ids? gene_symbols maps symbols"
        )
    logger.info("%d of %d gene_ids are in the annotation", len(kept), len(wanted))
    if len(kept) < len(wanted):
        absent = sorted(wanted - set(kept["gene_id"]))
        logger.warning("%d gene_ids are not in the annotation, e.g. %s", len(absent), ", ".join(absent[:5]))
    return kept.reset_index(drop=True)


def _resolve_dtype(dtype: str | None, device: torch.device, vcf: str | Path | None) -> str:
    if dtype is None:
        return "bfloat16" if device.type == "cuda" and vcf is None else "float32"
    if dtype == "bfloat16" and vcf is not None:
        logger.warning("dtype is bfloat16: its rounding is about as large as what a single variant changes")
    return dtype


def _check_settings(
    output: Path,
    batch_size: int,
    part_size: int,
    dtype: str | None,
    features_dtype: str,
    haplotypes: str,
    vcf: str | Path | None,
) -> None:
    if output.suffix != ".safetensors":
        raise ValueError(f"output is {output}; expected a name that ends in .safetensors")
    if batch_size < 1 or part_size < 1:
        raise ValueError(f"batch_size is {batch_size} and part_size {part_size}; expected positive numbers")
    if dtype not in (None, "float32", "bfloat16") or features_dtype not in ("float32", "float16"):
        raise ValueError(
            f"dtype is {dtype!r} and features_dtype {features_dtype!r}; expected float32 or bfloat16, and float32 or "
            "float16"
        )
    if haplotypes not in ("mean", "separate"):
        raise ValueError(f'haplotypes is {haplotypes!r}; expected "mean" or "separate"')
    if features_dtype == "float16" and vcf is not None:
        raise ValueError("features_dtype=float16 would round away what single variants change: use float32 with a VCF")
