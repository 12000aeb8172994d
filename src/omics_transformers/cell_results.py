"""From files of cells and a saved multiome model to types, imputed values and embeddings in a folder.

This is what `classify`, `impute` and `embed-cells` run. Cells may be in .h5ad, .h5mu, 10x .h5, a 10x folder, and ATAC
also in fragments with the peaks to count them in.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .multiome_files import CellFiles, read_cell_files
from .result_folder import require_room, result_folder, write_parts

if TYPE_CHECKING:
    import pandas as pd

    from .pipelines.cell_embedding import CellEmbeddingPipeline
    from .pipelines.cell_type_classification import CellTypeClassificationPipeline
    from .pipelines.multiome_imputation import MultiomeImputationPipeline

logger = logging.getLogger(__name__)

CELLS, GENES, CONFUSION = "cells", "genes", "confusion"
IMPUTED, EMBEDDINGS = "imputed.h5ad", "embeddings.h5ad"


@dataclass(frozen=True)
class CellsFolder:
    """What was written.

    Attributes:
        folder: tables, figures/, summary.json and .h5ad as the function says.
        summary: the content of summary.json.
        table: the one that users look at first.
    """

    folder: Path
    summary: dict[str, Any]
    table: "pd.DataFrame"


def classify_cells(
    cells: str | Path,
    output: str | Path,
    *,
    model: "str | Path | CellTypeClassificationPipeline",
    atac: str | Path | None = None,
    peaks: str | Path | None = None,
    modality: str | None = None,
    unknown_threshold: float = 0.0,
    labels: str | None = None,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
    counts_are: str = "reads",
    minimum_fragments: int = 1000,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> CellsFolder:
    """Tell the type of each cell; writes cells.tsv, summary.json, figures/, and with labels confusion.tsv.

    Args:
        cells: .h5ad, .h5mu, 10x .h5, a 10x folder, or fragments.
        output: folder to make.
        model: folder or Hub repository of a MultiomePerformerForCellTypeClassification, or a pipeline that holds one.
        atac: file of the same cells' ATAC, where `cells` holds their RNA only.
        peaks: BED of the intervals that fragments are counted in.
        modality: "rna" or "atac": what `cells` holds, or which of both to read; told by the content where None.
        unknown_threshold: cells whose best type has a lower probability are "unknown".
        labels: column of `obs` to compare with.
        counts_layer, use_raw: which matrix of .h5ad and .h5mu holds raw counts; X by default.
        gene_id_column: column of `var` that names genes; found by itself where None.
        counts_are: what a matrix of peaks holds: "reads" or "fragments". The counts of fragments files are fragments.
        minimum_fragments: barcodes with fewer are no cells, in a fragments file without RNA.
        batch_size: cells a model call.
        device: e.g. cpu or cuda:0; a GPU where there is one.
        overwrite: replace an earlier result in `output`.
        progress: show a progress bar.

    Returns:
        CellsFolder; its table is that of cells.

    Raises:
        FileExistsError: where `output` holds something.
        FileNotFoundError: naming the file that is not there.
        ValueError: for files that cannot be read, and as the pipeline; before the model runs.
    """
    require_room(output, (CELLS, CONFUSION), overwrite=overwrite)
    files = CellFiles(cells, atac, peaks, modality, counts_layer, use_raw, counts_are, minimum_fragments)
    pipe = open_classification_pipeline(model, device=device)
    read = read_cell_files(files)
    result = pipe(
        read.cells,
        modality=read.modality,
        unknown_threshold=unknown_threshold,
        labels=labels,
        gene_id_column=gene_id_column,
        counts_are=read.counts_are,
        batch_size=batch_size,
        progress=progress,
    )
    table = result.table.rename_axis("cell").reset_index()
    tables = {CELLS: table}
    if result.confusion is not None:
        tables[CONFUSION] = result.confusion.reset_index()
    summary = {**result.summary, "files": read.report}
    with result_folder(output) as folder:
        write_parts(folder, tables, summary, result.figures())
    return CellsFolder(Path(output), summary, table)


def impute_cells(
    cells: str | Path,
    output: str | Path,
    *,
    model: "str | Path | MultiomeImputationPipeline",
    atac: str | Path | None = None,
    peaks: str | Path | None = None,
    modality: str | None = None,
    direction: str | None = None,
    genes: list[str] | None = None,
    reference: str | Path | None = None,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
    counts_are: str = "reads",
    minimum_fragments: int = 1000,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> CellsFolder:
    """Impute ATAC from RNA or back; writes imputed.h5ad, genes.tsv, summary.json, and with both measured cells.tsv.

    Args:
        cells, output, atac, peaks, modality: as `classify_cells`. Where both modalities are given, the imputed one is
            held out and compared with.
        model: folder or Hub repository of a MultiomePerformerForPreTraining, or a pipeline that holds one.
        direction: "atac_from_rna" or "rna_from_atac"; from what is given where None.
        genes: to give values of, by id or symbol; all of the model's where None.
        reference: file of other cells with the imputed modality, for the gene-mean predictor beside the model.
        counts_layer, use_raw, gene_id_column, counts_are, minimum_fragments: as `classify_cells`; the first two and
            `counts_are` hold for the reference too.
        batch_size, device, overwrite, progress: as `classify_cells`.

    Returns:
        CellsFolder; its table is that of genes.

    Raises:
        As `classify_cells`.
    """
    require_room(output, (CELLS, GENES), overwrite=overwrite, others=(IMPUTED,))
    files = CellFiles(cells, atac, peaks, modality, counts_layer, use_raw, counts_are, minimum_fragments)
    pipe = open_imputation_pipeline(model, device=device)
    read = read_cell_files(files)
    reference_cells = None
    if reference is not None:
        others = CellFiles(reference, None, peaks, None, counts_layer, use_raw, counts_are, minimum_fragments)
        reference_cells = read_cell_files(others).cells
    result = pipe(
        read.cells,
        modality=read.modality,
        direction=direction,
        genes=genes,
        reference=reference_cells,
        gene_id_column=gene_id_column,
        counts_are=read.counts_are,
        batch_size=batch_size,
        progress=progress,
    )
    table = result.genes.reset_index()
    tables = {GENES: table}
    if result.observed is not None:
        tables[CELLS] = result.cell_scores.rename_axis("cell").reset_index()
    summary = {**result.summary, "files": read.report}
    with result_folder(output) as folder:
        result.anndata().write_h5ad(folder / IMPUTED)
        write_parts(folder, tables, summary, result.figures())
    return CellsFolder(Path(output), summary, table)


def embed_cells(
    cells: str | Path,
    output: str | Path,
    *,
    model: "str | Path | CellEmbeddingPipeline",
    atac: str | Path | None = None,
    peaks: str | Path | None = None,
    modality: str | None = None,
    labels: str | None = None,
    colour_by: str | None = None,
    umap: bool = True,
    seed: int = 0,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
    counts_are: str = "reads",
    minimum_fragments: int = 1000,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> CellsFolder:
    """Embed cells; writes embeddings.h5ad (obs, and obsm with embeddings and map), figures/umap.png and summary.json.

    Args:
        cells, output, atac, peaks, modality: as `classify_cells`.
        model: folder or Hub repository of any multiome Performer, or a pipeline that holds one.
        labels: column of `obs`: how far a cell's neighbours share it goes into the summary.
        colour_by: column of `obs` that colours the map; `labels` where None.
        umap: lay out and draw a map.
        seed: of the map.
        counts_layer, use_raw, gene_id_column, counts_are, minimum_fragments: as `classify_cells`.
        batch_size, device, overwrite, progress: as `classify_cells`.

    Returns:
        CellsFolder; its table is `obs`.

    Raises:
        ImportError: for a map without umap-learn, before the model runs.
        And as `classify_cells`.
    """
    import anndata

    from .pipelines.cell_embedding_result import EMBEDDING_NAME, UMAP_NAME
    from .pipelines.umap_figure import require_umap

    require_room(output, (), overwrite=overwrite, others=(EMBEDDINGS,))
    if umap:
        require_umap()
    files = CellFiles(cells, atac, peaks, modality, counts_layer, use_raw, counts_are, minimum_fragments)
    pipe = open_embedding_pipeline(model, device=device)
    read = read_cell_files(files)
    if umap and colour_by is not None:
        read.require_column(colour_by)
    result = pipe(
        read.cells,
        modality=read.modality,
        labels=labels,
        gene_id_column=gene_id_column,
        counts_are=read.counts_are,
        batch_size=batch_size,
        progress=progress,
    )
    obsm: dict[str, Any] = {EMBEDDING_NAME: result.embeddings}
    figures: dict[str, bytes] = {}
    if umap:
        coordinates = result.umap(seed=seed)
        obsm[UMAP_NAME] = coordinates.to_numpy()
        figures["umap"] = result.umap_figure(colour_by or labels, coordinates=coordinates)
    summary = {**result.summary, "umap_seed": seed if umap else None, "files": read.report}
    with result_folder(output) as folder:
        anndata.AnnData(obs=result.cells.obs.copy(), obsm=obsm).write_h5ad(folder / EMBEDDINGS)
        write_parts(folder, {}, summary, figures)
    return CellsFolder(Path(output), summary, result.cells.obs)


def open_classification_pipeline(
    model: "str | Path | CellTypeClassificationPipeline", *, device: str | None = None
) -> "CellTypeClassificationPipeline":
    """A pipeline around a saved model, in float32; no code but this package's runs.

    Args:
        model: folder or Hub repository; a pipeline is given back as it is.
        device: e.g. cpu or cuda:0; a GPU where there is one.

    Raises:
        ValueError: where it is another kind of model, or lacks tensors.
        OSError: where there is no model, or no feature extractor beside it.
    """
    from .modeling.modeling_multiome_performer import MultiomePerformerForCellTypeClassification
    from .pipelines.cell_type_classification import CellTypeClassificationPipeline

    if not isinstance(model, str | Path):
        return model
    parts = _open_model(model, MultiomePerformerForCellTypeClassification, device)
    return CellTypeClassificationPipeline(**parts)


def open_imputation_pipeline(
    model: "str | Path | MultiomeImputationPipeline", *, device: str | None = None
) -> "MultiomeImputationPipeline":
    """As `open_classification_pipeline`, for imputation."""
    from .modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
    from .pipelines.multiome_imputation import MultiomeImputationPipeline

    if not isinstance(model, str | Path):
        return model
    return MultiomeImputationPipeline(**_open_model(model, MultiomePerformerForPreTraining, device))


def open_embedding_pipeline(
    model: "str | Path | CellEmbeddingPipeline", *, device: str | None = None
) -> "CellEmbeddingPipeline":
    """As `open_classification_pipeline`, for embeddings, of a model with any head."""
    from .modeling.modeling_multiome_performer import MultiomePerformerModel
    from .pipelines.cell_embedding import CellEmbeddingPipeline

    if not isinstance(model, str | Path):
        return model
    return CellEmbeddingPipeline(**_open_model(model, MultiomePerformerModel, device))


def _open_model(source: str | Path, model_class: Any, device: str | None) -> Mapping[str, Any]:
    from .modeling.feature_extraction_multiome import MultiomeFeatureExtractor
    from .pipelines.multiome_pipeline import require_multiome_model
    from .saved_model import open_saved_model

    opened = open_saved_model(source, model_class, check=require_multiome_model, device=device)
    extractor = MultiomeFeatureExtractor.from_pretrained(source)
    return {"model": opened, "feature_extractor": extractor, "device": opened.device}
