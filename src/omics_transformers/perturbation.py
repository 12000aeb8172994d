"""From a saved model, cells and an edit to a folder with tables, figures and a report: what `perturb` runs.

Joins what the pipeline leaves to its caller: windows of the reference genome, laid as the model's own gene features
were, edits of them, the DNA model that reads them, and known targets to hold the result against.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .known_targets import compare_targets, read_known_targets, read_links
from .perturbation_options import DNA_EDITS, EditOptions, check_options, split_options
from .promoter_windows import WindowLayout, opened_promoters

if TYPE_CHECKING:
    from .promoter_edits import MadeEdit

logger = logging.getLogger(__name__)

TASK = "gene-embedding-perturbation"
READING = ("counts_layer", "use_raw", "gene_id_column")


def perturb(
    cells: Any,
    output: str | Path | None = None,
    *,
    model: str | Path,
    gene: str | Sequence[str],
    edit: str = "delete",
    gene_features: str | Path | None = None,
    donor_column: str = "donor",
    targets: Any = None,
    compare: Mapping[str, str | Path] | None = None,
    coexpression: bool = False,
    top_k: Sequence[int] | None = None,
    links: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> Any:
    """Change one gene, or several, in all cells that express them, and write which genes' embeddings move.

    Args:
        cells: .h5ad, AnnData, or a folder of `build cells`.
        output: folder for genes.tsv, sets.tsv, table1.tsv (the gene sets in the paper's layout), cells.tsv,
            summary.json, report.html and figures/; edit.json, bases.tsv, motif_hits.tsv, variants.tsv and
            candidates.tsv where the edit has them; recovery/ with targets. Nothing is written where None.
        model: folder or Hub repository of a Bio-DTA, or of a converted Geneformer for edits of the token.
        gene: gene id or symbol, or several, which all get the edit; variants are those of each gene's own window.
        edit: of the token: `delete` (later genes move up a rank), `delete-in-place` and `mask` (ranks kept),
            `overexpress` (moved to the front), `set-rank`. Of the DNA: `variants`, `mutagenesis` (random candidates, of
            which the DNA model's prediction chooses), `random-mutations`, `insert-motif`, `delete-motif`, `sequence`,
            `features`.
        gene_features: features with donors; each cell then carries its donor's DNA.
        donor_column: the cells' column that names their donors.
        targets: sets of known targets, as `read_gene_sets`; are they among the genes that move most?
        compare: name -> genes.tsv of other models, ranked beside this one.
        coexpression: rank by plain co-expression on the same cells as well.
        top_k: numbers of genes to take of each ranking; the usual ones where None.
        links: TSV of known links, source and target (TRRUST's too), for the network figure.
        seed: of every draw.
        device: e.g. cpu or cuda:0, of both models; the best by default.
        overwrite: replace an earlier result in `output`.
        trust_remote_code: let a Hub repository's own code run.
        options: what the edit is made of, the fields of `perturbation_options.EditOptions` (variants, vcf, sample,
            mutations, motifs, genome, annotation, dna_model, tracks, ...), and further keywords of the pipeline (layer,
            batch_size, gene_sets, sham_genes, minimum_cells, goal, ...).

    Returns:
        PerturbationResult.

    Raises:
        ValueError: for an option that the edit needs and lacks, variants or motifs that are not there, targets that the
            vocabulary does not know; and as the pipeline.
        FileExistsError: where `output` holds something and `overwrite` is false.
    """
    genes = [gene] if isinstance(gene, str) else list(gene)
    of_edit, of_pipeline = split_options(options)
    check_options(edit, genes, of_edit)
    if output is not None and Path(output).exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")
    known_links = None if links is None else read_links(links)
    pipe = _open_pipeline(model, device, trust_remote_code)
    if edit in DNA_EDITS and not _reads_dna(pipe):
        raise ValueError(
            f'the edit {edit!r} changes DNA, and this model reads none (adapter_type="none"): use delete, '
            "delete-in-place, mask, overexpress or set-rank, or a model with an adapter"
        )
    name = Path(str(model)).name
    reading = {key: of_pipeline.pop(key) for key in READING if key in of_pipeline}
    known = read_known_targets(
        targets,
        compare,
        tokenizer=pipe.tokenizer,
        model=name,
        cells=cells,
        coexpression=coexpression,
        top_k=top_k,
    )
    ranked = _read_cells(pipe, cells, genes, gene_features, donor_column, of_pipeline.get("goal"), reading)
    dna_model = None if of_edit.dna_model is None else _open_dna_model(of_edit.dna_model, pipe.device)
    made = _made_edits(pipe, edit, genes, of_edit, dna_model, seed, bool(options.get("progress")))
    asked = {"gene": [(one.gene, one.edit) for one in made]} if made else _token_edit(genes, edit, of_edit)
    result = pipe(ranked, **asked, dna_model=dna_model, seed=seed, **of_pipeline)
    result = replace(result, summary=_summary(result.summary, pipe, edit, made), links=known_links)
    if made:
        result = _with_edits(result, made, of_edit)
    if known is not None:
        edited = result.summary["gene_id"].split("+")
        recovery = compare_targets(
            known,
            result.genes,
            model=name,
            edited=edited,
            cells=cells,
            tokenizer=pipe.tokenizer,
            seed=seed,
            **reading,
        )
        result = replace(result, recovery=recovery)
    if output is not None:
        result.save(output, overwrite=overwrite)
    return result


def reference_window(
    pipe: Any,
    gene: str,
    genome: str | Path,
    annotation: str | Path,
    *,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    offsets: Mapping[str, int] | None = None,
) -> str:
    """The window of the reference around a gene's TSS, ACGTN, laid as the model's gene features were.

    Args:
        pipe: a perturbation pipeline; its model's `gene_features_metadata` says window_bp, tss_choice and orientation.
        gene: gene id or symbol of the pipeline's vocabulary.
        genome, annotation, gene_symbols, offsets: as `embed_promoters`.

    Raises:
        ValueError: where the model does not say how its features were made, or the annotation lacks the gene.
    """
    layout = WindowLayout.of_model(pipe.model)
    files = {"gene_symbols": gene_symbols, "offsets": offsets}
    with opened_promoters([_gene_id(pipe, gene)], genome, annotation, layout, **files) as (_, (promoter,)):  # type: ignore[arg-type]
        return promoter.sequence


def _open_pipeline(model: str | Path, device: str | None, trust_remote_code: bool) -> Any:
    import transformers

    open_pipeline: Any = transformers.pipeline  # its overloads know transformers' own tasks only
    return open_pipeline(TASK, model=str(model), device=device, trust_remote_code=trust_remote_code)


def _open_dna_model(dna_model: str | Path, device: Any) -> Any:
    from .modeling.modeling_enformer import EnformerForGeneFeatures

    return EnformerForGeneFeatures.from_pretrained(dna_model).to(device).eval()


def _read_cells(
    pipe: Any,
    cells: Any,
    genes: Sequence[str],
    gene_features: str | Path | None,
    donor_column: str,
    goal: Any,
    reading: Mapping[str, Any],
) -> Any:
    """The cells, ranked; a gene that is unknown, or that none expresses, is told before any DNA is read."""
    from .data_scripts.gene_features import read_gene_features
    from .pipelines.perturbation_goal import parse_goal
    from .pipelines.perturbation_preparation import EditPreparation

    tokens, wanted = EditPreparation(pipe.model, pipe.tokenizer).token_ids_of(genes), parse_goal(goal)
    ranked = pipe.preprocess(
        cells,
        donor_column=donor_column,
        gene_features=None if gene_features is None else read_gene_features(gene_features),
        label_column=None if wanted is None else wanted.column,
        **reading,
    )
    for gene, has in zip(genes, ranked.cells_with_each(tokens), strict=True):
        if not has.any():
            raise ValueError(
                f"none of the {len(ranked):,} cells expresses {gene} (among the genes that the model takes): give "
                "cells that do, e.g. another cell type"
            )
    return ranked


def _made_edits(
    pipe: Any, edit: str, genes: Sequence[str], options: EditOptions, dna_model: Any, seed: int, progress: bool
) -> "list[MadeEdit]":
    """The edits of DNA; none for edits of the token."""
    if edit not in DNA_EDITS:
        return []
    from .promoter_edits import make_edits

    layout = None if options.genome is None or options.annotation is None else WindowLayout.of_model(pipe.model)
    ids = [_gene_id(pipe, gene) for gene in genes]
    return make_edits(edit, ids, options, layout=layout, dna_model=dna_model, seed=seed, progress=progress)


def _reads_dna(pipe: Any) -> bool:
    return getattr(pipe.model.config, "adapter_type", "none") != "none"


def _gene_id(pipe: Any, gene: str) -> str:
    return pipe.tokenizer.convert_ids_to_tokens(pipe.tokenizer.token_id_of_gene(gene))


def _token_edit(genes: Sequence[str], edit: str, options: EditOptions) -> dict[str, Any]:
    from .pipelines.perturbation_edits import SetRank

    asked: Any = edit if options.rank is None or edit != "set-rank" else SetRank(options.rank)
    return {"gene": genes[0] if len(genes) == 1 else list(genes), "edit": asked}


def _summary(summary: Mapping[str, Any], pipe: Any, edit: str, made: "Sequence[MadeEdit]") -> dict[str, Any]:
    """With what was asked for, sentences for the report, and where the weights of both models came from."""
    more: dict[str, Any] = {"edit_asked": edit}
    config = pipe.model.config
    if _reads_dna(pipe):
        more["dna_weights_origin"] = (config.gene_features_metadata or {}).get("weights_origin")
    if hasattr(config, "weights_origin"):
        more["weights_origin"] = config.weights_origin
    if made:
        symbols = pipe.tokenizer.gene_symbols
        several = len(made) > 1
        more["edit_phrase"] = made[0].phrase
        more["edit_notes"] = [
            f"{symbols.get(one.gene, one.gene)}: {note}" if several else note for one in made for note in one.notes
        ]
    return {**summary, **more}


def _with_edits(result: Any, made: "Sequence[MadeEdit]", options: EditOptions) -> Any:
    """The result with what is known of the edits: tables, descriptions, and for one gene the view of its sequence."""
    import pandas as pd

    from .promoter_edits import changed_bases, motif_changes

    names = dict.fromkeys(name for one in made for name in one.tables)
    tables: dict[str, pd.DataFrame] = {
        name: pd.concat([one.tables[name] for one in made if name in one.tables], ignore_index=True) for name in names
    }
    hits = bases = None
    if len(made) == 1:
        bases = changed_bases(made[0])
        hits = motif_changes(made[0], options)
    return replace(
        result,
        edits=[one.description for one in made],
        edited_bases=bases,
        motif_hits=hits,
        edit_tables=tables,
    )
