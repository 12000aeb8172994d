"""From what a user asks of a promoter to the edit that the pipeline makes: variants, mutations, motifs, sequences.

Each edit is a window beside the reference's, or two where the haplotypes differ, with what a report says of it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .carried_variants import carry_variants
from .perturbation_options import EditOptions
from .pipelines.promoter_mutagenesis_edit import PromoterEdit
from .promoter_windows import Promoter, WindowLayout, opened_promoters

if TYPE_CHECKING:
    import pandas as pd

    from .data_scripts.genomes import Genome
    from .pipelines.motif_hits import Motif

logger = logging.getLogger(__name__)

COUNT, CANDIDATES, WINDOW_BP = 10, 100, 500


@dataclass(frozen=True, eq=False)
class MadeEdit:
    """An edit of one gene, ready for the pipeline.

    Attributes:
        gene: as the pipeline is to find it.
        edit: for the pipeline.
        phrase: what was done, behind "In N cells that express it,".
        notes: sentences for a report.
        description: for edit.json.
        views: edited windows that keep each base of the reference in its place, one a distinct haplotype.
        tables: name -> table, to be written beside the results.
        runs_left: whether the gene runs from right to left in the window.
        bases: around the changes, where they are known better than from the views: with gaps beside what was inserted.
    """

    gene: str
    edit: Any
    phrase: str
    notes: list[str]
    description: dict[str, Any]
    views: list[PromoterEdit] = field(default_factory=list)
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    runs_left: bool = False
    bases: "pd.DataFrame | None" = None


def make_edits(
    edit: str,
    genes: Sequence[str],
    options: EditOptions,
    *,
    layout: WindowLayout | None,
    dna_model: Any,
    seed: int,
    progress: bool = False,
) -> list[MadeEdit]:
    """The edit of DNA of each gene.

    Args:
        edit: one of `DNA_EDITS`; options are checked.
        genes: ids or symbols, as pipeline and annotation have them.
        options: of the edit.
        layout: of the model's windows; not needed by `features`, nor by `sequence` without a genome.
        dna_model: EnformerForGeneFeatures.
        seed: of random draws.
        progress: show a progress bar where many windows go through the DNA model.

    Raises:
        ValueError: where the edit cannot be made, e.g. variants that are not on the genome, or motifs without a hit.
    """
    if edit == "features":
        return [_features(genes[0], options)]
    if edit == "sequence" and options.genome is None:
        return [_sequence(genes[0], options, None, dna_model)]
    assert layout is not None and options.genome is not None and options.annotation is not None
    files = options.chosen("gene_symbols", "offsets")
    with opened_promoters(genes, options.genome, options.annotation, layout, **files) as (genome, promoters):
        return [
            replace(
                _make_edit(edit, gene, promoter, genome, options, dna_model, seed, progress),
                runs_left=promoter.strand_in_window == "-",
            )
            for gene, promoter in zip(genes, promoters, strict=True)
        ]


def changed_bases(made: MadeEdit) -> "pd.DataFrame | None":
    """What changed base by base, see `edited_bases`, offsets in the gene's direction; None where it cannot be shown."""
    from .pipelines.promoter_mutagenesis_view import edited_bases

    if made.bases is None and not made.views:
        return None
    table = edited_bases(made.views[0]) if made.bases is None else made.bases
    return table.assign(offset=-table["offset"]) if made.runs_left else table


def motif_changes(made: MadeEdit, options: EditOptions) -> "pd.DataFrame | None":
    """Motif hits that the edit takes, brings or leaves, of the first view; None without motifs or view.

    Positions and strands are the window's; offsets are those of each hit's first base in the gene's direction.
    """
    from .pipelines.motif_hits import read_jaspar
    from .pipelines.promoter_mutagenesis_view import compare_hits

    if options.motifs is None or not made.views:
        return None
    try:
        hits = compare_hits(made.views[0], read_jaspar(options.motifs), **options.chosen("threshold"))
    except ImportError as error:
        logger.warning("motifs that the edit takes or brings are not looked for: %s", error)
        return None
    tss = len(made.views[0].sequence) // 2
    return hits.assign(offset=tss - hits["end"] + 1) if made.runs_left else hits


def _make_edit(
    edit: str,
    gene: str,
    promoter: Promoter,
    genome: "Genome",
    options: EditOptions,
    dna_model: Any,
    seed: int,
    progress: bool,
) -> MadeEdit:
    if edit == "variants":
        return _variants(gene, promoter, genome, options, dna_model)
    if edit == "sequence":
        return _sequence(gene, options, promoter, dna_model)
    if edit == "mutagenesis":
        return _mutagenesis(gene, promoter, options, dna_model, seed, progress)
    if edit == "random-mutations":
        made, phrase = _random(promoter, options, seed), "random bases around its transcription start site were changed"
    elif edit == "insert-motif":
        made, phrase = _inserted(promoter, options, seed), "a motif was put into its promoter"
    else:
        made, phrase = _deleted(promoter, options, seed), "a motif's sites in its promoter were shuffled"
    change = _predicted(promoter.sequence, [made.sequence], options, dna_model)
    notes = [_told(made.description), *_predicted_note(change)]
    description = {"gene": gene, "kind": edit, **promoter.place(), **made.description, **change}
    return MadeEdit(gene, made.replace_sequence(), phrase, notes, description, [made])


def _variants(gene: str, promoter: Promoter, genome: "Genome", options: EditOptions, dna_model: Any) -> MadeEdit:
    from .pipelines.perturbation_edits import ReplaceHaplotypes, ReplaceSequence

    carried = carry_variants(genome, promoter, options)
    sequences = [window.sequence for window in carried.windows]
    reference = carried.windows[0].reference
    edit: Any = (
        ReplaceSequence(sequences[0], reference)
        if len(sequences) == 1
        else ReplaceHaplotypes((sequences[0], sequences[1]), reference)
    )
    change = _predicted(reference, sequences, options, dna_model)
    counts = carried.table["status"].value_counts()
    description = {
        "gene": gene,
        "kind": "variants",
        **promoter.place(),
        "vcf": None if options.vcf is None else str(options.vcf),
        "sample": options.sample,
        "haplotypes": len(sequences),
        "applied": [[str(one) for one in window.applied] for window in carried.windows],
        "counts": {str(status): int(count) for status, count in counts.items()},
        "tss_is_kept": [window.tss_is_kept for window in carried.windows],
        "vcf_report": carried.report,
        **change,
    }
    shown = [
        PromoterEdit(window.sequence, window.reference, {"how": "variants"})
        for window in carried.windows
        if window.applied and not any(variant.edit().length_change for variant in window.applied)
    ]
    notes = [*carried.notes(), *_predicted_note(change)]
    whose = "variants on both haplotypes" if options.sample is None else f"the variants of {options.sample}"
    phrase = f"its promoter was given {whose}"
    tables = {"variants": carried.table}
    return MadeEdit(gene, edit, phrase, notes, description, shown, tables, bases=carried.bases)


def _mutagenesis(
    gene: str, promoter: Promoter, options: EditOptions, dna_model: Any, seed: int, progress: bool
) -> MadeEdit:
    from .pipelines.promoter_mutagenesis import choose_by_expression, random_candidates

    candidates = random_candidates(
        promoter.sequence,
        count=None if options.rate is not None else _or(options.mutations, COUNT),
        rate=options.rate,
        window_bp=_or(options.mutation_window_bp, WINDOW_BP),
        n_candidates=_or(options.candidates, CANDIDATES),
        seed=seed,
    )
    logger.info("%s: %d candidates go through the DNA model", gene, len(candidates))
    chosen = choose_by_expression(
        candidates, dna_model, progress=progress, **options.chosen("tracks", "direction", "head", "centre_bins")
    )
    described = chosen.edit.description
    moved = "" if chosen.moves_as_asked else " None of them moves it as asked: this is the least bad."
    within = " That is within the DNA model's rounding." if abs(chosen.predicted_change) <= chosen.noise_floor else ""
    notes = [
        f"{described['n_mutations']:,} bases of the {described['window_bp']:,} bp around the TSS changed at random: "
        f"{_cut(chosen.edit.mutations)}.",
        f"Of {len(candidates):,} candidates, the one whose predicted expression is to be the "
        f"{'lowest' if described['direction'] == 'lower' else 'highest'}; log2 change {chosen.predicted_change:+.3g}, "
        f"on {len(described['tracks'])} tracks of head {described['head']}.{moved}{within}",
    ]
    description = {"gene": gene, "kind": "mutagenesis", **promoter.place(), **described}
    description["mutations"] = chosen.edit.mutations
    phrase = "bases around its transcription start site were changed, as a DNA model chose among random ones"
    tables = {"candidates": chosen.table.assign(gene=gene)}
    return MadeEdit(gene, chosen.edit.replace_sequence(), phrase, notes, description, [chosen.edit], tables)


def _random(promoter: Promoter, options: EditOptions, seed: int) -> PromoterEdit:
    from .pipelines.perturbation_dna import mutate_at_random

    count, window_bp = _or(options.mutations, COUNT), _or(options.mutation_window_bp, WINDOW_BP)
    sequence = mutate_at_random(promoter.sequence, count=count, window_bp=window_bp, seed=seed)
    how = {"how": "random mutations", "n_mutations": count, "window_bp": window_bp, "seed": seed}
    made = PromoterEdit(sequence, promoter.sequence, how)
    return made.described(mutations=made.mutations)


def _inserted(promoter: Promoter, options: EditOptions, seed: int) -> PromoterEdit:
    from .pipelines.promoter_mutagenesis_motifs import insert_motif

    (motif,) = _named_motifs(options)
    assert options.offset is not None
    strand: Any = promoter.strand_in_window
    return insert_motif(
        promoter.sequence,
        motif,
        offset=options.offset,
        gene_strand=strand,
        seed=seed,
        **options.chosen("strand", "instance"),
    )


def _deleted(promoter: Promoter, options: EditOptions, seed: int) -> PromoterEdit:
    from .pipelines.promoter_mutagenesis_motifs import delete_motif

    chosen = options.chosen("threshold")
    if options.offset is not None:
        chosen["offset"] = options.offset if promoter.strand_in_window == "+" else -options.offset
    if options.mutation_window_bp is not None:
        chosen["window_bp"] = options.mutation_window_bp
    return delete_motif(promoter.sequence, _named_motifs(options), seed=seed, **chosen)


def _sequence(gene: str, options: EditOptions, promoter: Promoter | None, dna_model: Any) -> MadeEdit:
    from .pipelines.perturbation_edits import ReplaceSequence

    assert options.sequence is not None
    sequence = read_single_sequence(options.sequence)
    reference = None if promoter is None else promoter.sequence
    phrase = "it was given the DNA features of another sequence"
    notes = [f"The sequence of {Path(options.sequence).name}, {len(sequence):,} bp."]
    description: dict[str, Any] = {"gene": gene, "kind": "sequence", "sequence": str(options.sequence)}
    edit = ReplaceSequence(sequence, reference)
    if promoter is None or len(sequence) != len(promoter.sequence):  # the pipeline says how long it should be
        return MadeEdit(gene, edit, phrase, notes, description)
    made = PromoterEdit(sequence.upper(), promoter.sequence, {"how": "sequence"})
    change = _predicted(promoter.sequence, [made.sequence], options, dna_model)
    description |= {**promoter.place(), "n_mutations": len(made.mutations), **change}
    return MadeEdit(gene, edit, phrase, [*notes, *_predicted_note(change)], description, [made])


def _features(gene: str, options: EditOptions) -> MadeEdit:
    from .pipelines.perturbation_edits import ReplaceFeatures

    assert options.features is not None
    edit = ReplaceFeatures(np.load(options.features, allow_pickle=False))
    described = {"gene": gene, "kind": "features", "features": str(options.features)}
    note = f"The features of {Path(options.features).name}."
    return MadeEdit(gene, edit, "it was given other DNA features", [note], described)


def read_single_sequence(path: str | Path) -> str:
    """The one record of a FASTA file.

    Raises:
        ValueError: where it holds another number of records.
    """
    from .data_scripts.genomes import open_genome

    with open_genome(path) as genome:
        if len(genome.contigs) != 1:
            raise ValueError(f"{path} has {len(genome.contigs):,} sequences, expected one: the edited window")
        ((name, length),) = genome.contigs.items()
        return genome.fetch(name, 0, length).decode("ascii")


def _named_motifs(options: EditOptions) -> "list[Motif]":
    from .pipelines.motif_hits import read_jaspar
    from .pipelines.perturbation_gene_sets import close_names

    assert options.motifs is not None
    known = read_jaspar(options.motifs)
    chosen = []
    for name in options.names_of_motifs():
        found = [motif for motif in known if name in (motif.matrix_id, motif.name)]
        if len(found) != 1:
            names = [motif.name for motif in known]
            close = close_names(name, names) or names[:5]
            what = f"{len(found)} motifs" if found else "no motif"
            raise ValueError(
                f"{options.motifs} has {what} of the name or id {name!r}: give one of {', '.join(close)}, or an id"
            )
        chosen += found
    return chosen


def _predicted(reference: str, sequences: Sequence[str], options: EditOptions, dna_model: Any) -> dict[str, Any]:
    """What the DNA model predicts of the edit, the mean of the haplotypes; nothing without tracks."""
    from .pipelines.promoter_mutagenesis_expression import PromoterReader, Tracks

    if options.tracks is None or not len(options.tracks):
        return {}
    tracks = Tracks(list(options.tracks), **options.chosen("head", "centre_bins"))
    reader = PromoterReader(dna_model, reference, tracks, batch_size=1)
    expression = reader.expression(sequences).mean(axis=0, keepdims=True)
    return {
        **tracks._asdict(),
        "reference_expression": float(reader.reference_expression.mean()),
        "expression": float(expression.mean()),
        "predicted_change": float(reader.change(expression)[0]),
        "noise_floor": reader.noise_floor,
    }


def _predicted_note(change: dict[str, Any]) -> list[str]:
    if not change:
        return []
    within = ", within the DNA model's rounding" if abs(change["predicted_change"]) <= change["noise_floor"] else ""
    return [
        f"Predicted expression: log2 change {change['predicted_change']:+.3g}{within}, on {len(change['tracks'])} "
        f"tracks of head {change['head']}."
    ]


def _told(described: dict[str, Any]) -> str:
    """One sentence of a mutagenesis' description."""
    if described["how"] == "motif insertion":
        return (
            f"{described['motif']} as {described['instance']} on the {described['strand']} strand of the gene, "
            f"{described['offset']:+,} bp from the TSS, in the place of {described['replaced']}."
        )
    if described["how"] == "motif deletion":
        return (
            f"{described['n_hits']:,} hits of {described['motif']} within {described['window_bp']:,} bp "
            f"({described['method'].replace('_', ' ')}, p below {described['threshold']:g}); "
            f"{described['n_mutations']:,} bases differ."
        )
    return (
        f"{described['n_mutations']:,} bases of the {described['window_bp']:,} bp around the TSS: "
        f"{_cut(described['mutations'])}."
    )


def _cut(mutations: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(mutations) - limit:,} more" if len(mutations) > limit else ""
    return ", ".join(mutations[:limit]) + more


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
