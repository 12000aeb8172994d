"""From options to the joint module: LoRA on Enformer, its merging, and files that are not those of the features."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from omics_transformers.data_scripts.gene_features import GeneFeatures, align_gene_features, read_gene_features
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.dna_encoder_setup import with_dna_encoder, with_lora
from omics_transformers.training.small_enformer import make_small_enformer


def features_of(folder: Path) -> GeneFeatures:
    features = read_gene_features(folder / "gene_features.safetensors")
    return align_gene_features(features, ["<pad>", "<mask>", *features.gene_ids])


def joined(folder: Path, features: GeneFeatures | None, has_donors: bool = False, **changes: Any) -> Any:
    training = {name: changes.pop(name) for name in ("fsdp", "deepspeed") if name in changes}
    arguments = DNAEncoderArguments(
        **{
            "tune_dna_model": "lora",
            "dna_model": str(folder / "enformer"),
            "genome": str(folder / "genome.fa"),
            "annotation": str(folder / "tss.tsv"),
            **changes,
        }
    )
    model = BioDTAForMaskedLM(BioDTAConfig(vocab_size=42, hidden_size=8, num_hidden_layers=1, dna_feature_size=48))
    if features is not None:
        model.set_gene_features(torch.from_numpy(features.features))
    training_arguments = TrainingArguments(use_cpu=True, report_to="none")
    for name, value in training.items():
        setattr(training_arguments, name, value)
    return with_dna_encoder(model, arguments, features, training_arguments, has_donors=has_donors), training_arguments


@pytest.mark.parametrize(
    ("target", "layers"),
    [
        ("attention", {"to_q", "to_k", "to_v", "to_out"}),
        ("feed_forward", {"transformer.0.1.fn.1", "transformer.0.1.fn.4"}),
        ("convolutions", {"stem.0", "stem.1.fn.2", "conv_tower.0.0.2", "conv_tower.5.1.fn.2", "final_pointwise.1.2"}),
    ],
)
def test_lora_adapts_what_it_is_told_and_merges_to_the_same_features(
    toy_promoters: Path, target: str, layers: set[str]
) -> None:
    encoder = EnformerForGeneFeatures.from_pretrained(toy_promoters / "enformer").eval()
    sequences = ["".join("ACGT"[(i * i + i // 3 + k) % 4] for i in range(256)) for k in range(2)]
    before = encoder.gene_features(sequences)
    adapted = with_lora(encoder, rank=3, targets=[target])
    torch.testing.assert_close(encoder.gene_features(sequences), before)  # it begins as nothing
    found = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in found)
    assert all(any(layer in name for name in found) for layer in layers)
    assert not any("_heads" in name for name in found)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    changed = encoder.gene_features(sequences).detach()
    assert (changed - before).abs().max() > 1e-3
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged.gene_features(sequences), changed, rtol=1e-4, atol=1e-5)


def test_settings_of_the_run_reach_the_module(toy_promoters: Path) -> None:
    module, training_arguments = joined(toy_promoters, features_of(toy_promoters), windows_per_step=7, lora_rank=2)
    assert (module.windows_per_step, module.layer, module.pool, module.seed) == (7, "final_pointwise", "all", 42)
    assert training_arguments.ddp_find_unused_parameters is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"has_donors": True}, "donor_column are both set: donors' DNA cannot be trained end to end"),
        ({"features": None}, "adapter_type is none: a model that reads no DNA has no encoder"),
        ({"deepspeed": "zero2.json"}, "under FSDP or DeepSpeed"),
        ({"without": "pool"}, "do not say their pool"),
    ],
)
def test_runs_that_cannot_be_trained_end_to_end(toy_promoters: Path, changes: dict[str, Any], message: str) -> None:
    features = features_of(toy_promoters)
    features.metadata.pop(changes.pop("without", ""), None)
    with pytest.raises(ValueError, match=message):
        joined(toy_promoters, **{"features": features, **changes})


def test_another_genome_or_encoder_than_the_features_is_refused(toy_promoters: Path, tmp_path: Path) -> None:
    features = features_of(toy_promoters)
    genome = (toy_promoters / "genome.fa").read_text()
    (tmp_path / "genome.fa").write_text(genome.replace("ACG", "TGC"))
    with pytest.raises(ValueError, match=r"for ENSG0000000000\d differ from the gene features' by .* was given"):
        joined(toy_promoters, features, genome=str(tmp_path / "genome.fa"))
    make_small_enformer(tmp_path / "enformer", seed=1, dim=24, depth=1, calibrated=True)
    with pytest.raises(ValueError, match=r"differ from the gene features' by"):
        joined(toy_promoters, features, dna_model=str(tmp_path / "enformer"))
