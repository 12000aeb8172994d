"""Models that read DNA, RNA and chromatin together, in the Hugging Face ecosystem.

Importing the package registers its models, tokenizers and pipeline tasks with transformers; the classes below are
imported when first asked for.
"""

from typing import Any

from .registration import load, register_when_needed
from .version import __version__

_EXPORTS = {
    "AccessibilityReading": "data_scripts.accessibility_inputs:AccessibilityReading",
    "AccessibilitySource": "data_scripts.accessibility_sources:AccessibilitySource",
    "BedSource": "data_scripts.bed_files:BedSource",
    "BioDTAConfig": "modeling.configuration_bio_dta:BioDTAConfig",
    "BioDTAForMaskedLM": "modeling.modeling_bio_dta:BioDTAForMaskedLM",
    "BioDTAModel": "modeling.modeling_bio_dta:BioDTAModel",
    "CellEmbeddingPipeline": "pipelines.cell_embedding:CellEmbeddingPipeline",
    "CellTypeClassificationPipeline": "pipelines.cell_type_classification:CellTypeClassificationPipeline",
    "CombinationResult": "pipelines.perturbation_combinations:CombinationResult",
    "DNASegmentationPipeline": "pipelines.dna_segmentation:DNASegmentationPipeline",
    "EnformerForGeneFeatures": "modeling.modeling_enformer:EnformerForGeneFeatures",
    "GeneEmbeddingPerturbationPipeline": ("pipelines.gene_embedding_perturbation:GeneEmbeddingPerturbationPipeline"),
    "GeneRankTokenizer": "modeling.tokenization_gene_rank:GeneRankTokenizer",
    "GoalState": "pipelines.perturbation_goal:GoalState",
    "MaskedGeneCollator": "training.collators:MaskedGeneCollator",
    "MaskedGeneTrainer": "training.trainer:MaskedGeneTrainer",
    "MultiomeFeatureExtractor": "modeling.feature_extraction_multiome:MultiomeFeatureExtractor",
    "MultiomeImputationPipeline": "pipelines.multiome_imputation:MultiomeImputationPipeline",
    "MultiomePerformerConfig": "modeling.configuration_multiome_performer:MultiomePerformerConfig",
    "MultiomePerformerForCellTypeClassification": (
        "modeling.modeling_multiome_performer:MultiomePerformerForCellTypeClassification"
    ),
    "MultiomePerformerForPreTraining": "modeling.modeling_multiome_performer:MultiomePerformerForPreTraining",
    "MultiomePerformerModel": "modeling.modeling_multiome_performer:MultiomePerformerModel",
    "MultiomeSource": "data_scripts.multiome_sources:MultiomeSource",
    "NTRegionRanker": "modeling.modeling_nt_region_ranker:NTRegionRanker",
    "NTRegionRankerConfig": "modeling.configuration_nt_region_ranker:NTRegionRankerConfig",
    "NucleotideKmerTokenizer": "modeling.tokenization_nucleotide_kmer:NucleotideKmerTokenizer",
    "NucleotideTransformerConfig": "modeling.configuration_nucleotide_transformer:NucleotideTransformerConfig",
    "NucleotideTransformerForMaskedLM": "modeling.modeling_nucleotide_transformer:NucleotideTransformerForMaskedLM",
    "NucleotideTransformerModel": "modeling.modeling_nucleotide_transformer:NucleotideTransformerModel",
    "PackedGeneCollator": "training.packed_cells:PackedGeneCollator",
    "RegionRankingMetric": "training.ranking_metric:RegionRankingMetric",
    "RegionRankingPipeline": "pipelines.region_ranking:RegionRankingPipeline",
    "SegmentNTConfig": "modeling.configuration_segment_nt:SegmentNTConfig",
    "SegmentNTForTokenClassification": "modeling.modeling_segment_nt:SegmentNTForTokenClassification",
    "SegmentationMetric": "training.segmentation_metric:SegmentationMetric",
    "ShuffledLengthGroupedSampler": "training.samplers:ShuffledLengthGroupedSampler",
    "StreamedCells": "training.streaming_cells:StreamedCells",
    "TokenBudgetBatchSampler": "training.token_budget_sampler:TokenBudgetBatchSampler",
    "apply_variants": "data_scripts.edited_windows:apply_variants",
    "build_cells": "data_scripts.cells:build_cells",
    "build_multiome": "data_scripts.multiome:build_multiome",
    "build_regions": "data_scripts.regions:build_regions",
    "build_segments": "data_scripts.segments:build_segments",
    "census_input": "data_scripts.soma_addresses:census_input",
    "choose_by_expression": "pipelines.promoter_mutagenesis:choose_by_expression",
    "coexpression_baseline": "training.coexpression_baseline:coexpression_baseline",
    "compare_recovery": "pipelines.target_recovery:compare_recovery",
    "convert_geneformer": "training.published_geneformer:convert_geneformer",
    "convert_nucleotide_transformer": ("training.published_nucleotide_transformer:convert_nucleotide_transformer"),
    "classify_cells": "cell_results:classify_cells",
    "delete_motif": "pipelines.promoter_mutagenesis_motifs:delete_motif",
    "embed_cells": "cell_results:embed_cells",
    "embed_promoters": "training.embedding:embed_promoters",
    "explain": "explanation:explain",
    "impute_cells": "cell_results:impute_cells",
    "insert_motif": "pipelines.promoter_mutagenesis_motifs:insert_motif",
    "lift_variants": "data_scripts.variant_lift:lift_variants",
    "parse_variant": "data_scripts.sequence_variants:parse_variant",
    "perturb": "perturbation:perturb",
    "perturb_combinations": "pipelines.perturbation_combinations:perturb_combinations",
    "random_candidates": "pipelines.promoter_mutagenesis:random_candidates",
    "rank_regions": "ranking:rank_regions",
    "saturate": "promoter_saturation:saturate",
    "saturate_promoter": "pipelines.promoter_mutagenesis_saturation:saturate_promoter",
    "segment": "segmentation:segment",
    "simulate_accessibility": "data_scripts.simulated_accessibility:simulate_accessibility",
    "simulate_multiome": "data_scripts.simulated_multiome:simulate_multiome",
    "simulate_regulome": "data_scripts.simulated_regulome:simulate_regulome",
    "variant_effect": "variant_effects:variant_effect",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_EXPORTS[name])


def __dir__() -> list[str]:
    return sorted(__all__)


register_when_needed()
