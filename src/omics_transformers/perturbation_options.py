"""Which options each edit of `perturb` takes, and what is said of those that are missing or not used."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

TOKEN_EDITS = ("delete", "delete-in-place", "mask", "overexpress", "set-rank")
DNA_EDITS = ("features", "sequence", "random-mutations", "mutagenesis", "variants", "insert-motif", "delete-motif")
EDITS = (*TOKEN_EDITS, *DNA_EDITS)

_REFERENCE = ("genome", "annotation", "dna_model")
NEEDED: dict[str, Sequence[str]] = {
    "set-rank": ("rank",),
    "features": ("features",),
    "sequence": ("sequence", "dna_model"),
    "random-mutations": _REFERENCE,
    "mutagenesis": (*_REFERENCE, "tracks"),
    "variants": _REFERENCE,
    "insert-motif": (*_REFERENCE, "motifs", "motif", "offset"),
    "delete-motif": (*_REFERENCE, "motifs", "motif"),
}
_READING = ("gene_symbols", "offsets", "tracks", "head", "centre_bins", "motifs", "threshold")
_POLICIES = ("unphased", "missing_genotypes", "other_variants", "overlapping", "unsorted")
USED: dict[str, Sequence[str]] = {
    "sequence": ("genome", "annotation", *_READING),
    "random-mutations": ("mutations", "mutation_window_bp", *_READING),
    "mutagenesis": ("mutations", "rate", "mutation_window_bp", "candidates", "direction", *_READING),
    "variants": ("variants", "vcf", "sample", *_POLICIES, *_READING),
    "insert-motif": ("strand", "instance", *_READING),
    "delete-motif": ("mutation_window_bp", "offset", *_READING),
}


@dataclass(frozen=True)
class EditOptions:
    """What an edit of `perturb` is made of; None where nothing was given.

    Attributes:
        rank: the gene's new rank, 0 the first, for `set-rank`.
        features: .npy of (dna_feature_size,) numbers, for `features`.
        sequence: FASTA with one record, the edited window, for `sequence`; as long as the model's windows.
        variants: `chr8:11704300:G>A` and the like (see `parse_variant`), on both haplotypes, for `variants`.
        vcf: a VCF whose variants are carried: all of them by both haplotypes, or what `sample` has.
        sample: of the VCF.
        mutations, rate: how many bases change (10), or the chance of each, for `random-mutations` (the number only) and
            `mutagenesis`.
        mutation_window_bp: bases around the TSS in which mutations lie (500), or motifs are taken out (1,000).
        candidates: of `mutagenesis` (100), from which `direction` chooses: "lower" (the default) or "raise".
        motifs: JASPAR file; needed by edits of motifs, of other edits of DNA it gives the motifs that are lost and
            gained.
        motif: names or ids of the motifs to edit; one for `insert-motif`.
        offset: of an inserted motif's first base from the TSS, or of the middle of the bases in which motifs are taken
            out; in the gene's direction: -50 is upstream.
        strand, instance: of an inserted motif, see `insert_motif`.
        threshold: p-value below which a place is a motif's hit (1e-4).
        genome, annotation: FASTA and GTF, GFF3, genePred or table, as given to `embed`; they give the windows.
        gene_symbols, offsets: as `embed_promoters`.
        dna_model: the Enformer that made the model's gene features.
        tracks, head, centre_bins: the DNA model's predictions that count as expression, see
            `EnformerForGeneFeatures.predicted_expression`; without tracks nothing is predicted.
        unphased, missing_genotypes, other_variants, overlapping, unsorted: of a VCF, see `read_donor_variants`.
    """

    rank: int | None = None
    features: str | Path | None = None
    sequence: str | Path | None = None
    variants: Sequence[str] | None = None
    vcf: str | Path | None = None
    sample: str | None = None
    mutations: int | None = None
    rate: float | None = None
    mutation_window_bp: int | None = None
    candidates: int | None = None
    direction: str | None = None
    motifs: str | Path | None = None
    motif: str | Sequence[str] | None = None
    offset: int | None = None
    strand: str | None = None
    instance: str | None = None
    threshold: float | None = None
    genome: str | Path | None = None
    annotation: str | Path | None = None
    gene_symbols: Mapping[str, str] | str | Path | None = None
    offsets: Mapping[str, int] | None = None
    dna_model: str | Path | None = None
    tracks: Sequence[int] | None = None
    head: str | None = None
    centre_bins: int | None = None
    unphased: str | None = None
    missing_genotypes: str | None = None
    other_variants: str | None = None
    overlapping: str | None = None
    unsorted: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that were given; an empty list is none."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value != [] and value != ()}

    def chosen(self, *names: str) -> dict[str, Any]:
        """Of these options the ones that were given, as keywords."""
        given = self.given()
        return {name: given[name] for name in names if name in given}

    def names_of_motifs(self) -> list[str]:
        """`motif` as a list."""
        return [self.motif] if isinstance(self.motif, str) else list(self.motif or [])


def split_options(options: Mapping[str, Any]) -> tuple[EditOptions, dict[str, Any]]:
    """Keywords of `perturb` as those of the edit, and the others, which are the pipeline's."""
    names = {field.name for field in fields(EditOptions)}
    of_edit = {name: value for name, value in options.items() if name in names}
    return EditOptions(**of_edit), {name: value for name, value in options.items() if name not in names}


def check_options(edit: str, genes: Sequence[str], options: EditOptions) -> None:
    """Warn of options that the edit does not use.

    Raises:
        ValueError: on an unknown edit, options that it lacks, options that contradict each other, or several genes for
            an edit that says what one gene gets.
    """
    if edit not in EDITS:
        raise ValueError(f"edit is {edit!r}; expected one of {', '.join(EDITS)}")
    given = options.given()
    needed = NEEDED.get(edit, ())
    missing = [name for name in needed if name not in given]
    if missing:
        raise ValueError(f"edit {edit!r} needs {', '.join(missing)} as well")
    if edit == "variants":
        _check_variants(given)
    if edit == "mutagenesis" and "mutations" in given and "rate" in given:
        raise ValueError(f"mutations is {options.mutations} and rate {options.rate}: give one of them")
    if edit == "insert-motif" and len(options.names_of_motifs()) != 1:
        raise ValueError(f"{len(options.names_of_motifs())} motifs are to be inserted: name one")
    if edit in ("features", "sequence") and len(genes) != 1:
        raise ValueError(f"edit {edit!r} says what one gene gets, and {len(genes)} genes were given: give one")
    unused = [name for name in given if name not in (*needed, *USED.get(edit, ()))]
    if "tracks" not in given:
        unused += [name for name in ("head", "centre_bins") if name in given and name not in unused]
    if unused:
        logger.warning("edit %r does not use %s: ignored", edit, ", ".join(unused))


def _check_variants(given: Mapping[str, Any]) -> None:
    if "variants" not in given and "vcf" not in given:
        raise ValueError(
            "edit 'variants' needs variants or vcf as well: --variant chr8:11704300:G>A, --vcf FILE, or both"
        )
    for name in ("sample", "unphased", "missing_genotypes", "unsorted"):
        if name in given and "vcf" not in given:
            raise ValueError(f"{name} is {given[name]!r}, and no VCF was given: give vcf (--vcf), or leave it out")
