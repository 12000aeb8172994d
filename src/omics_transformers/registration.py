"""Registers the package's classes with transformers: Auto classes and pipeline tasks.

Importing transformers does not import torch, and importing a model class does, which costs seconds. So the registration
waits until transformers itself has loaded its Auto classes: a finder on `sys.meta_path` watches for that and then
removes itself.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# model_type -> configuration, and {Auto class: class} of models and of what prepares their input; as "module:class".
MODELS = {
    "bio-dta": (
        "modeling.configuration_bio_dta:BioDTAConfig",
        {
            "AutoModel": "modeling.modeling_bio_dta:BioDTAModel",
            "AutoModelForMaskedLM": "modeling.modeling_bio_dta:BioDTAForMaskedLM",
            "AutoTokenizer": "modeling.tokenization_gene_rank:GeneRankTokenizer",
        },
    ),
    "multiome-performer": (
        "modeling.configuration_multiome_performer:MultiomePerformerConfig",
        {
            "AutoModel": "modeling.modeling_multiome_performer:MultiomePerformerModel",
            "AutoModelForPreTraining": "modeling.modeling_multiome_performer:MultiomePerformerForPreTraining",
            "AutoModelForSequenceClassification": (
                "modeling.modeling_multiome_performer:MultiomePerformerForCellTypeClassification"
            ),
            "AutoFeatureExtractor": "modeling.feature_extraction_multiome:MultiomeFeatureExtractor",
        },
    ),
    "nt-region-ranker": (
        "modeling.configuration_nt_region_ranker:NTRegionRankerConfig",
        {
            "AutoModel": "modeling.modeling_nt_region_ranker:NTRegionRanker",
            "AutoTokenizer": "modeling.tokenization_nucleotide_kmer:NucleotideKmerTokenizer",
        },
    ),
    "nucleotide-transformer": (
        "modeling.configuration_nucleotide_transformer:NucleotideTransformerConfig",
        {
            "AutoModel": "modeling.modeling_nucleotide_transformer:NucleotideTransformerModel",
            "AutoModelForMaskedLM": "modeling.modeling_nucleotide_transformer:NucleotideTransformerForMaskedLM",
            "AutoTokenizer": "modeling.tokenization_nucleotide_kmer:NucleotideKmerTokenizer",
        },
    ),
    "segment-nt": (
        "modeling.configuration_segment_nt:SegmentNTConfig",
        {
            "AutoModelForTokenClassification": "modeling.modeling_segment_nt:SegmentNTForTokenClassification",
            "AutoTokenizer": "modeling.tokenization_nucleotide_kmer:NucleotideKmerTokenizer",
        },
    ),
}
# task -> pipeline, Auto class of its model.
PIPELINES = {
    "cell-embedding": ("pipelines.cell_embedding:CellEmbeddingPipeline", "AutoModel"),
    "cell-type-classification": (
        "pipelines.cell_type_classification:CellTypeClassificationPipeline",
        "AutoModelForSequenceClassification",
    ),
    "dna-segmentation": (
        "pipelines.dna_segmentation:DNASegmentationPipeline",
        "AutoModelForTokenClassification",
    ),
    "gene-embedding-perturbation": (
        "pipelines.gene_embedding_perturbation:GeneEmbeddingPerturbationPipeline",
        "AutoModelForMaskedLM",
    ),
    "multiome-imputation": ("pipelines.multiome_imputation:MultiomeImputationPipeline", "AutoModelForPreTraining"),
    "region-ranking": ("pipelines.region_ranking:RegionRankingPipeline", "AutoModel"),
}

_AUTO_CLASSES = "transformers.models.auto.modeling_auto"
_PIPELINES = "transformers.pipelines"
# Modules after whose import it may be time to register.
_WATCHED = ("transformers.", f"{__package__}.modeling.", f"{__package__}.pipelines.")


def register_when_needed() -> None:
    """Register now the parts of transformers that are loaded, and the others as soon as they are."""
    if not _register_what_is_loaded():
        sys.meta_path.insert(0, _TransformersWatcher())


def load(reference: str) -> type:
    """The class that "module:class", relative to this package, names."""
    module, name = reference.split(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


_registered: set[str] = set()


def _register_what_is_loaded() -> bool:
    """Register with each loaded part of transformers once; True when there is nothing left to wait for."""
    if _something_is_loading():
        return False
    for part, register in ((_AUTO_CLASSES, _register_models), (_PIPELINES, _register_pipelines)):
        if part in sys.modules and part not in _registered:
            _registered.add(part)
            register()
    return len(_registered) == 2


def _something_is_loading() -> bool:
    """Whether a module of transformers or ours is half way through its import: its classes may not exist yet."""
    return any(
        getattr(module.__spec__, "_initializing", False)
        for name, module in list(sys.modules.items())
        if name.startswith(_WATCHED) and getattr(module, "__spec__", None) is not None
    )


def _register_models() -> None:
    import transformers

    for model_type, (config_reference, classes) in MODELS.items():
        config_class = load(config_reference)
        transformers.AutoConfig.register(model_type, config_class)
        for auto_class, reference in classes.items():
            getattr(transformers, auto_class).register(config_class, load(reference))


def _register_pipelines() -> None:
    import transformers
    from transformers.pipelines import PIPELINE_REGISTRY

    for task, (pipeline_reference, auto_class) in PIPELINES.items():
        PIPELINE_REGISTRY.register_pipeline(
            task, pipeline_class=load(pipeline_reference), pt_model=getattr(transformers, auto_class)
        )


class _TransformersWatcher(MetaPathFinder):
    """Finds the watched modules as the other finders do, and looks after each import whether it is time to register."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_WATCHED):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader, self)
        return spec


class _RegisteringLoader(Loader):
    """Runs another loader, then registers if transformers has come to rest."""

    def __init__(self, loader: Loader, watcher: _TransformersWatcher) -> None:
        self._loader = loader
        self._watcher = watcher

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        # This module itself counts as loading until its import statement returns.
        initializing, module.__spec__._initializing = module.__spec__._initializing, False  # type: ignore[attr-defined]
        try:
            if _register_what_is_loaded() and self._watcher in sys.meta_path:
                sys.meta_path.remove(self._watcher)
        finally:
            module.__spec__._initializing = initializing  # type: ignore[attr-defined]
