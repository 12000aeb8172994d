"""What end-to-end training leaves: a cell model, an encoder and features that fit together, as users load them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForMaskedLM, Trainer, TrainingArguments

from omics_transformers.data_scripts.gene_features import align_gene_features, read_gene_features
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.dna_encoder_setup import with_dna_encoder
from omics_transformers.training.end_to_end_output import TunedDNAEncoder


def tuned(folder: Path, output: Path, **options: Any) -> TunedDNAEncoder:
    """Written after a change of all trained weights of the encoder, as of training."""
    features = read_gene_features(folder / "gene_features.safetensors")
    features = align_gene_features(features, ["<pad>", "<mask>", *features.gene_ids])
    arguments = DNAEncoderArguments(
        dna_model=str(folder / "enformer"),
        genome=str(folder / "genome.fa"),
        annotation=str(folder / "tss.tsv"),
        **options,
    )
    torch.manual_seed(0)
    model = BioDTAForMaskedLM(BioDTAConfig(vocab_size=42, hidden_size=8, num_hidden_layers=1, dna_feature_size=48))
    model.set_gene_features(torch.from_numpy(features.features))
    training_arguments = TrainingArguments(use_cpu=True, report_to="none", output_dir=str(output), disable_tqdm=True)
    module = with_dna_encoder(model, arguments, features, training_arguments)
    for parameter in module.dna_encoder.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    made = TunedDNAEncoder(Trainer(model=module, args=training_arguments), arguments, features)
    made.write(output)
    return made


@pytest.mark.parametrize("options", [{"tune_dna_model": "lora", "save_adapter": True}, {"tune_dna_model": "full"}])
def test_model_encoder_and_features_fit_together(toy_promoters: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    made = tuned(toy_promoters, tmp_path, **options)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    encoder = EnformerForGeneFeatures.from_pretrained(tmp_path / "dna_encoder").eval()
    features = read_gene_features(tmp_path / "gene_features.safetensors")
    start = read_gene_features(toy_promoters / "gene_features.safetensors")
    table = model.bert.gene_token_embeddings.table
    assert type(model).__name__ == "BioDTAForMaskedLM"
    assert features.gene_ids == start.gene_ids
    np.testing.assert_array_equal(table.features[2:], features.features)
    codes = made.module.windows.codes(np.arange(2, 42)).long()
    with torch.no_grad():
        from_encoder = encoder.gene_features(torch.nn.functional.one_hot(codes, 5)[..., :4].float())
    torch.testing.assert_close(table.features[2:], from_encoder, rtol=1e-4, atol=1e-4)
    assert np.abs(features.features - start.features).max() > 0.1
    # The adapter was trained on the statistics of the start.
    np.testing.assert_allclose(table.mean, start.features.mean(axis=0), atol=1e-5)
    assert (tmp_path / "dna_encoder" / "adapter").is_dir() == ("save_adapter" in options)


def test_metadata_name_the_tuned_encoder_and_what_it_was_tuned_from(toy_promoters: Path, tmp_path: Path) -> None:
    tuned(toy_promoters, tmp_path, tune_dna_model="full")
    metadata = read_gene_features(tmp_path / "gene_features.safetensors").metadata
    start = read_gene_features(toy_promoters / "gene_features.safetensors").metadata
    assert metadata["model"] == "dna_encoder" and metadata["tuned_from"] == str(toy_promoters / "enformer")
    assert metadata["weights_origin"].startswith("random, seed 0") and "end to end" in metadata["weights_origin"]
    assert all(
        metadata[name] == start[name] for name in ("window_bp", "layer", "pool", "tss_choice", "orient_by_strand")
    )
    assert "content_hash" not in metadata
    config = AutoModelForMaskedLM.from_pretrained(tmp_path).config
    assert config.gene_features_metadata == metadata


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
def test_the_adapter_on_the_encoder_of_the_start_is_the_tuned_encoder(toy_promoters: Path, tmp_path: Path) -> None:
    tuned(toy_promoters, tmp_path, tune_dna_model="lora", save_adapter=True)
    start = EnformerForGeneFeatures.from_pretrained(toy_promoters / "enformer").eval()
    adapted = PeftModel.from_pretrained(start, str(tmp_path / "dna_encoder" / "adapter")).eval()
    merged = EnformerForGeneFeatures.from_pretrained(tmp_path / "dna_encoder").eval()
    sequence = ["ACGTTGCA" * 32]
    expected = merged.gene_features(sequence)
    torch.testing.assert_close(adapted.get_base_model().gene_features(sequence), expected, rtol=1e-4, atol=1e-4)
