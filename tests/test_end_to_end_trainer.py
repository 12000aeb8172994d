"""Training both models by `Trainer`: parameter groups, checkpoints that say what they hold, and an exact resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.dna_encoder_setup import with_dna_encoder
from omics_transformers.training.end_to_end_dna import BioDTAWithDNAEncoder
from omics_transformers.training.end_to_end_trainer import EndToEndTrainer, require_same_dna_encoder
from omics_transformers.training.pretraining_arguments import DataArguments, ModelArguments, PretrainingArguments
from omics_transformers.training.pretraining_data import prepare_pretraining_data
from omics_transformers.training.run_mlm import make_model

TABLE = "model.bert.gene_token_embeddings.table.features"
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def make(toy_corpus: Path, toy_promoters: Path) -> Any:
    """A function from an output folder and options of the encoder to a trainer."""

    def make(output: Path, *, max_steps: int = 3, tuning: str = "lora", **options: Any) -> EndToEndTrainer:
        data = prepare_pretraining_data(
            DataArguments(cells=str(toy_corpus), gene_features=str(toy_promoters / "gene_features.safetensors")),
            reads_dna=True,
            max_length=16,
        )
        arguments = DNAEncoderArguments(
            tune_dna_model=tuning,  # type: ignore[arg-type]
            dna_model=str(toy_promoters / "enformer"),
            genome=str(toy_promoters / "genome.fa"),
            annotation=str(toy_promoters / "tss.tsv"),
            **{"windows_per_step": 6, "windows_per_chunk": 3, "dna_learning_rate": 0.002, "lora_rank": 2, **options},
        )
        training_arguments = PretrainingArguments(
            output_dir=str(output),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            per_device_train_batch_size=8,
            learning_rate=0.01,
            weight_decay=0.1,
            warmup_steps=0,
            max_steps=max_steps,
            save_steps=2,
            lr_scheduler_type="constant",
        )
        torch.manual_seed(0)
        model = make_model(ModelArguments(**TINY, max_position_embeddings=16), data)
        return EndToEndTrainer(
            model=with_dna_encoder(model, arguments, data.gene_features, training_arguments),
            args=training_arguments,
            data_collator=MaskedGeneCollator(vocab_size=len(data.vocabulary)),
            train_dataset=data.training,
            eval_dataset=data.held_out,
            dna_arguments=arguments,
        )

    return make


def test_the_encoder_has_its_own_rate_and_norms_do_not_decay(make: Any, tmp_path: Path) -> None:
    trainer = make(tmp_path, tuning="full")
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert found.keys() == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert found["dna_encoder.stem.0.weight"] == (0.002, 0.1)
    assert found["dna_encoder.stem.1.fn.0.weight"] == (0.002, 0.0)  # a batch norm
    assert found["model.bert.gene_token_embeddings.adapter.projection.weight"] == (0.01, 0.1)
    assert found["model.cls.predictions.decoder.bias"] == (0.01, 0.0)


def test_a_resumed_run_ends_with_the_weights_and_table_of_an_unbroken_one(make: Any, tmp_path: Path) -> None:
    unbroken, resumed = make(tmp_path / "unbroken"), make(tmp_path / "resumed")
    module = unbroken.model
    assert isinstance(module, BioDTAWithDNAEncoder)
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    unbroken.train()
    checkpoint = tmp_path / "unbroken" / "checkpoint-2"
    saved = load_file(checkpoint / "model.safetensors")
    assert saved["passes"] == 2 and not torch.equal(saved[TABLE], start[TABLE])
    require_same_dna_encoder(checkpoint, unbroken.dna_arguments)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, tensor in module.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {name for name in changed if "dna_encoder" in name} == {name for name in start if "lora_" in name}
    assert TABLE in changed and "model.bert.gene_token_embeddings.table.mean" not in changed
    assert unbroken.evaluate()["eval_loss"] == resumed.evaluate()["eval_loss"]


def test_checkpoints_of_other_settings_are_refused(make: Any, tmp_path: Path) -> None:
    trainer = make(tmp_path, max_steps=2)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert (checkpoint / "config.json").is_file()
    other = DNAEncoderArguments(**{**vars(trainer.dna_arguments), "lora_rank": 4})
    with pytest.raises(ValueError, match=r"lora_rank was 2 and is 4; lora_alpha was 4 and is 8\. Give the settings"):
        require_same_dna_encoder(checkpoint, other)
    with pytest.raises(ValueError, match="tune_dna_model was lora and is none"):
        require_same_dna_encoder(checkpoint, DNAEncoderArguments())
    (checkpoint / "dna_encoder.json").unlink()
    require_same_dna_encoder(checkpoint, DNAEncoderArguments())
    with pytest.raises(ValueError, match="tune_dna_model was none and is lora"):
        require_same_dna_encoder(checkpoint, trainer.dna_arguments)
    require_same_dna_encoder(None, trainer.dna_arguments)
