"""From a saved model, cells and an edit to a folder with a table, figures and a report: what `perturb` runs.

Joins what the pipeline leaves to its caller: windows of the reference genome, laid as the model's own gene features
were, and the DNA model that reads them.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

EDITS = ("delete", "mask", "overexpress", "features", "sequence", "random-mutations")
TASK = "gene-embedding-perturbation"


def perturb(
    cells: Any,
    output: str | Path | None = None,
    *,
    model: str | Path,
    gene: str,
    edit: str = "delete",
    features: str | Path | None = None,
    sequence: str | Path | None = None,
    mutations: int = 10,
    mutation_window_bp: int = 500,
    genome: str | Path | None = None,
    annotation: str | Path | None = None,
    gene_symbols: Mapping[str, str] | str | Path | None = None,
    offsets: Mapping[str, int] | None = None,
    dna_model: str | Path | None = None,
    gene_features: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> Any:
    """Change one gene in all cells that express it, and write which genes' contextual embeddings move.

    Args:
        cells: .h5ad, AnnData, or a folder of `build cells`.
        output: folder for genes.tsv, sets.tsv, summary.json, report.html and figures/; nothing is written where None.
        model: folder or Hub repository of a Bio-DTA.
        gene: gene id or symbol.
        edit: `delete` (later genes move up a rank), `mask` (ranks kept), `overexpress` (moved to the front),
            `features`, `sequence`, or `random-mutations`.
        features: .npy of (dna_feature_size,) numbers, for `features`.
        sequence: FASTA with one record, the edited window, for `sequence`; as long as the model's windows.
        mutations, mutation_window_bp: how many bases change, in how many bp around the TSS, for `random-mutations`.
        genome, annotation: FASTA and GTF, GFF3, genePred or table, as given to `embed`; they give the reference's
            window: needed for `random-mutations`, and recommended for `sequence`.
        gene_symbols, offsets: as `embed_promoters`.
        dna_model: the Enformer that made the model's gene features; needed for `sequence` and `random-mutations`.
        gene_features: features with donors; each cell then carries its donor's DNA.
        seed: of random mutations and of the draw of sham genes.
        device: e.g. cpu or cuda:0; the best by default.
        overwrite: replace an earlier result in `output`.
        trust_remote_code: let a Hub repository's own code run.
        options: further keywords of the pipeline (layer, batch_size, gene_sets, sham_genes, minimum_cells, ...).

    Returns:
        PerturbationResult.

    Raises:
        ValueError: for an option that the edit needs and lacks, or that it does not use; and as the pipeline.
        FileExistsError: where `output` holds something and `overwrite` is false.
    """
    given = {"features": features, "sequence": sequence, "genome": genome, "annotation": annotation}
    _require_options(edit, {**given, "dna_model": dna_model})
    if output is not None and Path(output).exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")
    pipe = _open_pipeline(model, device, trust_remote_code)
    reference = None
    if edit in ("sequence", "random-mutations") and genome is not None and annotation is not None:
        reference = reference_window(pipe, gene, genome, annotation, gene_symbols=gene_symbols, offsets=offsets)
    result = pipe(
        cells,
        gene=gene,
        edit=_make_edit(edit, features, sequence, reference, mutations, mutation_window_bp, seed),
        dna_model=None if dna_model is None else _open_dna_model(dna_model),
        gene_features=None if gene_features is None else _read_gene_features(gene_features),
        seed=seed,
        **options,
    )
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

    Raises:
        ValueError: where the model does not say how its features were made, or the annotation lacks the gene.
    """
    from .data_scripts.promoters import promoter_sequence

    metadata = pipe.model.config.gene_features_metadata or {}
    missing = [key for key in ("window_bp", "tss_choice", "orient_by_strand") if key not in metadata]
    if missing:
        raise ValueError(
            f"the model does not say how its DNA windows were laid (no {', '.join(missing)} in "
            "gene_features_metadata): give the features of the edited gene themselves (--edit features)"
        )
    gene_id = pipe.tokenizer.convert_ids_to_tokens(pipe.tokenizer.token_id_of_gene(gene))
    return promoter_sequence(
        genome,
        annotation,
        gene_id,
        window_bp=int(metadata["window_bp"]),
        tss_choice=metadata["tss_choice"],
        orient_by_strand=str(metadata["orient_by_strand"]).lower() == "true",
        gene_symbols=gene_symbols,
        offsets=offsets,
    )


def _require_options(edit: str, given: Mapping[str, Any]) -> None:
    needed: dict[str, Sequence[str]] = {
        "features": ["features"],
        "sequence": ["sequence", "dna_model"],
        "random-mutations": ["genome", "annotation", "dna_model"],
    }
    if edit not in EDITS:
        raise ValueError(f"edit is {edit!r}; expected one of {', '.join(EDITS)}")
    missing = [name for name in needed.get(edit, ()) if given[name] is None]
    if missing:
        raise ValueError(f"edit {edit!r} needs {', '.join(missing)} as well")
    used = {*needed.get(edit, ()), *(["genome", "annotation"] if edit == "sequence" else [])}
    unused = [name for name, value in given.items() if value is not None and name not in used]
    if unused:
        logger.warning("edit %r does not use %s: ignored", edit, ", ".join(unused))


def _open_pipeline(model: str | Path, device: str | None, trust_remote_code: bool) -> Any:
    import transformers

    open_pipeline: Any = transformers.pipeline  # its overloads know transformers' own tasks only
    return open_pipeline(TASK, model=str(model), device=device, trust_remote_code=trust_remote_code)


def _open_dna_model(dna_model: str | Path) -> Any:
    from .modeling.modeling_enformer import EnformerForGeneFeatures

    return EnformerForGeneFeatures.from_pretrained(dna_model)


def _read_gene_features(path: str | Path) -> Any:
    from .data_scripts.gene_features import read_gene_features

    return read_gene_features(path)


def _make_edit(
    edit: str,
    features: str | Path | None,
    sequence: str | Path | None,
    reference: str | None,
    mutations: int,
    mutation_window_bp: int,
    seed: int,
) -> Any:
    from .pipelines import perturbation_edits as edits

    if edit == "features":
        assert features is not None
        return edits.ReplaceFeatures(np.load(features, allow_pickle=False))
    if edit == "sequence":
        assert sequence is not None
        return edits.ReplaceSequence(_read_single_sequence(sequence), reference)
    if edit == "random-mutations":
        assert reference is not None
        return edits.RandomMutations(reference, count=mutations, window_bp=mutation_window_bp, seed=seed)
    return edit


def _read_single_sequence(path: str | Path) -> str:
    from .data_scripts.genomes import open_genome

    genome = open_genome(path)
    if len(genome.contigs) != 1:
        raise ValueError(f"{path} has {len(genome.contigs):,} sequences, expected one: the edited window")
    ((name, length),) = genome.contigs.items()
    return genome.fetch(name, 0, length).decode("ascii")
