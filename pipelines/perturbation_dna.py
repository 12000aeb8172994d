"""DNA features of edited sequences, made as the model's own features were.

How those were made (layer, pool, window_bp) is in `model.config.gene_features_metadata`. Where the reference's sequence
is known, only the difference between the two sequences' features is taken: one base changes features by less than
what another device or precision does, so the reference must go through the same DNA model in the same call.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
import torch

from .perturbation_edits import ReplaceHaplotypes, ReplaceSequence

logger = logging.getLogger(__name__)

# Root mean square, in standard deviations between genes. Rounding in bfloat16 stays below; another window does not.
LARGEST_REFERENCE_ERROR = 0.1


class GeneFeatureRow(NamedTuple):
    """The model's own features of the edited gene, (dna_feature_size,) float32, and their spread between genes."""

    features: np.ndarray
    standard_deviation: np.ndarray

    def standardised_size(self, difference: np.ndarray) -> float:
        """Root mean square of a difference of features, in standard deviations between genes."""
        return float(np.sqrt(np.mean((difference / self.standard_deviation) ** 2)))


class EditedFeatures(NamedTuple):
    """(dna_feature_size,) float32 features of the edited gene, and the bases changed, e.g. "98304A>G" (0-based)."""

    features: np.ndarray
    mutations: list[str]


def edited_features(edit: Any, row: GeneFeatureRow, metadata: dict[str, Any] | None, dna_model: Any) -> EditedFeatures:
    """Features for an edit of DNA.

    Args:
        edit: ReplaceFeatures, ReplaceSequence, ReplaceHaplotypes or RandomMutations.
        row: the model's own features of the gene.
        metadata: `model.config.gene_features_metadata`.
        dna_model: has `gene_features(sequences, layer=, pool=) -> (sequences, dna_feature_size)`; only for sequences.

    Raises:
        ValueError: on features of another width or not finite, sequences of another length or alphabet, no DNA model,
            or a reference sequence whose features are not those that the model holds.
    """
    if edit.kind == "features":
        return EditedFeatures(_checked_features(edit.features, len(row.features)), [])
    edited, reference = _sequences(edit)
    settings = _feature_settings(metadata)
    for which, letters in [*(("edited", sequence) for sequence in edited), ("reference", reference)]:
        if letters is not None and len(letters) != settings["window_bp"]:
            raise ValueError(
                f"the {which} sequence has {len(letters):,} bp, and the model's features come from windows of "
                f"{settings['window_bp']:,} bp centred on the TSS: give a window of that length"
            )
    distinct = list(dict.fromkeys(sequence for sequence in (*edited, reference) if sequence is not None))
    made = dict(zip(distinct, _features_of(distinct, dna_model, settings, len(row.features)), strict=True))
    mean = np.stack([made[sequence] for sequence in edited]).mean(axis=0)
    if reference is None:
        return EditedFeatures(mean, [])
    _require_reference(row, made[reference])
    mutations = [mutation for sequence in edited for mutation in list_mutations(reference, sequence)]
    return EditedFeatures(row.features + (mean - made[reference]), list(dict.fromkeys(mutations)))


def mutate_at_random(sequence: str, *, count: int, window_bp: int, seed: int) -> str:
    """Change `count` bases of the `window_bp` around the centre, each to one of the three others; N is left alone.

    Raises:
        ValueError: where fewer than `count` bases can change.
    """
    bases = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8).copy()
    start = max(len(bases) // 2 - window_bp // 2, 0)
    window = np.arange(start, min(start + window_bp, len(bases)))
    candidates = window[bases[window] != ord("N")]
    if not 0 < count <= len(candidates):
        raise ValueError(
            f"{count:,} random mutations were asked for, and {len(candidates):,} bases other than N lie in the "
            f"{window_bp:,} bp around the TSS: give a count between 1 and that, or a larger window_bp"
        )
    generator = np.random.default_rng(seed)
    places = generator.choice(candidates, size=count, replace=False)
    alphabet = np.frombuffer(b"ACGT", dtype=np.uint8)
    steps = generator.integers(1, 4, size=count)
    bases[places] = alphabet[(np.searchsorted(alphabet, bases[places]) + steps) % 4]
    return bases.tobytes().decode("ascii")


def list_mutations(reference: str, sequence: str) -> list[str]:
    """The bases that differ between two sequences of one length, e.g. "98304A>G", 0-based from the window's start."""
    first = np.frombuffer(reference.encode("ascii"), dtype=np.uint8)
    second = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
    return [f"{place}{reference[place]}>{sequence[place]}" for place in np.flatnonzero(first != second).tolist()]


def checked_sequence(sequence: str) -> str:
    """Upper case, A, C, G, T and N; other IUPAC letters become N and are logged.

    Raises:
        ValueError: on any other letter.
    """
    upper = sequence.upper()
    strange = sorted(set(upper) - set("ACGTNRYSWKMBDHVU"))
    if strange:
        raise ValueError(
            f"the sequence has {strange[0]!r} at position {upper.index(strange[0]):,}: expected A, C, G, T, N"
        )
    ambiguous = sum(map(upper.count, "RYSWKMBDHVU"))
    if ambiguous:
        logger.warning("%d letters of the sequence are neither A, C, G, T nor N: they become N", ambiguous)
    return upper.translate(str.maketrans("RYSWKMBDHVU", "N" * 11))


def _sequences(edit: Any) -> tuple[list[str], str | None]:
    """The edited sequence, or both haplotypes', and, where known, the reference's."""
    reference = None if edit.reference_sequence is None else checked_sequence(edit.reference_sequence)
    if edit.kind == ReplaceSequence.kind:
        return [checked_sequence(edit.sequence)], reference
    if edit.kind == ReplaceHaplotypes.kind:
        return [checked_sequence(sequence) for sequence in edit.sequences], reference
    assert reference is not None
    return [mutate_at_random(reference, count=edit.count, window_bp=edit.window_bp, seed=edit.seed)], reference


def _feature_settings(metadata: dict[str, Any] | None) -> dict[str, Any]:
    missing = [key for key in ("layer", "pool", "window_bp") if key not in (metadata or {})]
    if missing or metadata is None:
        raise ValueError(
            f"the model's configuration does not say how its gene features were made (no {', '.join(missing)} in "
            "gene_features_metadata), so features of a sequence cannot be made alike: give the features themselves"
        )
    pool = str(metadata["pool"])
    return {
        "layer": str(metadata["layer"]),
        "pool": int(pool) if pool.isdecimal() else pool,
        "window_bp": int(metadata["window_bp"]),
    }


def _features_of(sequences: list[str], dna_model: Any, settings: dict[str, Any], size: int) -> np.ndarray:
    if dna_model is None:
        raise ValueError(
            "an edit of the sequence needs a DNA model: give dna_model=EnformerForGeneFeatures.from_pretrained(...), "
            "the one that made the model's gene features"
        )
    if hasattr(dna_model, "eval"):
        dna_model.eval()  # batch statistics and dropout of training would change the features
    with torch.inference_mode():
        made = dna_model.gene_features(sequences, layer=settings["layer"], pool=settings["pool"])
    features = torch.as_tensor(made).float().cpu().numpy()
    if features.shape != (len(sequences), size):
        raise ValueError(
            f"the DNA model gives features of shape {features.shape} for layer {settings['layer']!r}, and the model "
            f"expects {(len(sequences), size)}: use the DNA model that made its gene features"
        )
    return features


def _require_reference(row: GeneFeatureRow, made: np.ndarray) -> None:
    error = row.standardised_size(made - row.features)
    logger.info("features of the reference sequence differ from the model's by %.2g standard deviations", error)
    if error > LARGEST_REFERENCE_ERROR:
        raise ValueError(
            f"the features of the reference sequence differ from those that the model holds for this gene by "
            f"{error:.2g} standard deviations between genes, and at most {LARGEST_REFERENCE_ERROR} is rounding: give "
            "the same window (assembly, TSS, strand) and the same DNA model as for the model's gene features"
        )


def _checked_features(features: np.ndarray, size: int) -> np.ndarray:
    if features.shape != (size,):
        raise ValueError(
            f"the edit's features have shape {features.shape}, and the model expects ({size},): one number for each "
            "DNA feature of a gene"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{int((~np.isfinite(features)).sum()):,} of the edit's {size:,} features are not finite")
    return features.astype(np.float32)
