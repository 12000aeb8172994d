"""Conversion of published checkpoints: parity with the JAX code and transformers' ESM, round trips, bad input."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    EsmConfig,
    EsmForMaskedLM,
    PreTrainedModel,
)

import omics_transformers  # noqa: F401 (registers the Auto classes)
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.nucleotide_kmers import KmerVocabulary
from omics_transformers.training.published_nucleotide_transformer import (
    convert_nucleotide_transformer,
    to_published_state_dict,
)
from omics_transformers.training.published_nucleotide_transformer_configs import to_published_config

VOCABULARY = KmerVocabulary.published(3)
IDS = {
    "vocab_size": 75,
    "kmer_size": 3,
    "kmer_token_ids": [6, 70],
    "letter_token_ids": [70, 75],
    "n_token_id": 74,
}
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ELEMENTS = ["exon", "intron", "a third one"]


def publish(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """A folder in the published layout, and its tensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_published_config(model.config)))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY.tokens))
    tensors = {name: tensor.clone() for name, tensor in to_published_state_dict(model).items()}
    save_file(tensors, folder / "model.safetensors")
    return tensors


def random_model(*, is_segmentation: bool = False, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    if is_segmentation:
        config = SegmentNTConfig(**SIZES, **IDS, id2label=dict(enumerate(ELEMENTS)), unet_channels=[24, 48, 96])
        return SegmentNTForTokenClassification(config).eval()
    return NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES, **IDS, **changes)).eval()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    publish(random_model(), tmp_path / "published")
    return tmp_path / "published"


@pytest.mark.parity
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["nt", "segment", "segment_rescaled"])
def test_equals_the_public_jax_code(tmp_path: Path, data_folder: Path, name: str) -> None:
    source = data_folder / "parity" / name
    report = convert_nucleotide_transformer(source, tmp_path)
    assert report.unused_tensors == ["esm.embeddings.position_embeddings.weight"]
    auto_class = AutoModelForMaskedLM if name == "nt" else AutoModelForTokenClassification
    model = auto_class.from_pretrained(tmp_path).eval()
    answers = np.load(source / "jax.npz")
    tokens = answers["tokens"][: len(answers["embeddings"])]
    with torch.no_grad():
        outputs = model(torch.from_numpy(tokens), output_hidden_states=True)
    is_token = tokens != 1
    found = outputs.hidden_states[-1].numpy()
    np.testing.assert_allclose(found[is_token], answers["embeddings"][is_token], atol=1e-5, rtol=0)
    if name == "nt":
        np.testing.assert_allclose(outputs.logits.numpy()[is_token], answers["logits"][is_token], atol=1e-5, rtol=1e-4)
    else:
        np.testing.assert_allclose(outputs.logits.numpy(), answers["logits"], atol=1e-5, rtol=1e-4)
    # And back, to the last bit.
    expected = load_file(source / "model.safetensors")
    back = to_published_state_dict(model)
    assert back.keys() == expected.keys() - set(report.unused_tensors)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in back.items())


@pytest.mark.parity
@pytest.mark.parametrize("token_dropout", [False, True])
@pytest.mark.parametrize("emb_layer_norm_before", [False, True])
@pytest.mark.parametrize(("positions", "ties"), [("absolute", True), ("absolute", False), ("rotary", False)])
def test_the_first_version_equals_transformers(
    tmp_path: Path, token_dropout: bool, emb_layer_norm_before: bool, positions: str, ties: bool
) -> None:
    torch.manual_seed(0)
    config = EsmConfig(
        **SIZES,
        vocab_size=75,
        mask_token_id=2,
        pad_token_id=1,
        max_position_embeddings=42,
        position_embedding_type=positions,
        token_dropout=token_dropout,
        emb_layer_norm_before=emb_layer_norm_before,
        tie_word_embeddings=ties,
        layer_norm_eps=1e-5,
        initializer_range=0.3,
    )
    theirs = EsmForMaskedLM(config).eval()
    torch.nn.init.normal_(theirs.lm_head.bias)
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_text("\n".join(VOCABULARY.tokens))
    report = convert_nucleotide_transformer(tmp_path / "theirs", tmp_path / "ours")
    assert all(name.endswith("inv_freq") or "contact_head" in name for name in report.unused_tensors)
    ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    assert (ours.lm_head.decoder.weight is ours.encoder.embeddings.word_embeddings.weight) == ties
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    sequences = ["ACGTAC<mask>GGTAC", "AC<mask>", "ACGNNACGATTACCATGGACAC<mask><mask>"]
    batch = tokenizer(sequences, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected, found = theirs(**batch).logits, ours(**batch).logits
    is_token = batch["attention_mask"].bool()
    assert expected[is_token].std() > 0.3
    torch.testing.assert_close(found[is_token], expected[is_token], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_segmentation", [False, True])
def test_there_and_back(tmp_path: Path, is_segmentation: bool) -> None:
    model = random_model(is_segmentation=is_segmentation)
    tensors = publish(model, tmp_path / "published")
    report = convert_nucleotide_transformer(tmp_path / "published", tmp_path / "ours")
    assert report.tensors == len(tensors) and report.unused_tensors == [] == report.unused_config_fields
    assert report.parameters == model.num_parameters() and report.model_class == type(model).__name__
    auto_class = AutoModelForTokenClassification if is_segmentation else AutoModelForMaskedLM
    converted = auto_class.from_pretrained(tmp_path / "ours").eval()
    assert type(converted) is type(model)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in to_published_state_dict(converted).items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert tokenizer.kmer_size == 3 and tokenizer.model_max_length == 2048
    batch = tokenizer(["ACGTACGANACGT", "ACGT"], padding=True, return_tensors="pt")
    assert torch.equal(converted(**batch).logits, model(**batch).logits)
    if is_segmentation:
        assert list(converted.config.id2label.values()) == ELEMENTS and converted.config.unet_channels == [24, 48, 96]


def test_the_card_says_where_it_comes_from(published: Path, tmp_path: Path) -> None:
    (published / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\ntags:\n- DNA\n---\n# The published card\n")
    convert_nucleotide_transformer(published, tmp_path / "ours")
    card = ModelCard.load(tmp_path / "ours" / "README.md")
    assert card.data.license == "cc-by-nc-sa-4.0" and card.data.pipeline_tag == "fill-mask"
    assert "The weights of `published`, unchanged, under" in card.text and str(tmp_path) not in card.text
    assert "2 layers, hidden 24, 2 heads" in card.text and "none is missing" in card.text


def test_a_pytorch_file_with_what_is_unused(published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = load_file(published / "model.safetensors")
    unused = {
        "esm.embeddings.position_embeddings.weight": torch.zeros(2050, 24),
        "esm.embeddings.position_ids": torch.arange(2050)[None],
        "esm.contact_head.regression.weight": torch.zeros(1, 4),
        "esm.contact_head.regression.bias": torch.zeros(1),
        "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq": torch.zeros(6),
    }
    (published / "model.safetensors").unlink()
    torch.save(tensors | unused, published / "pytorch_model.bin")
    with caplog.at_level(logging.INFO):
        report = convert_nucleotide_transformer(published, tmp_path / "ours")
    assert report.unused_tensors == sorted(unused) and report.tensors == len(tensors)
    assert "no use for them: 5 tensors (esm.contact_head.regression.bias, " in caplog.text


def test_tokens_without_an_embedding_are_left_out(tmp_path: Path) -> None:
    """The first version has 4,105 embeddings, and <eos> and <bos> behind them in its vocabulary."""
    tokens = [*VOCABULARY.tokens[:4], *VOCABULARY.tokens[6:], "<eos>", "<bos>"]
    ids = {"vocab_size": 73, "kmer_size": 3, "kmer_token_ids": [4, 68], "letter_token_ids": [68, 73], "n_token_id": 72}
    first = {"hidden_act": "gelu", "mlp_bias": True, "position_embedding_type": "absolute", "token_dropout": True}
    config = NucleotideTransformerConfig(**SIZES, **ids, **first, max_position_embeddings=12)
    publish(NucleotideTransformerForMaskedLM(config), tmp_path / "published")
    (tmp_path / "published" / "vocab.txt").write_text("\n".join(tokens))
    report = convert_nucleotide_transformer(tmp_path / "published", tmp_path / "ours")
    assert report.unused_tokens == ["<eos>", "<bos>"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    assert len(tokenizer) == 73 == model.config.vocab_size and tokenizer.model_max_length == 10
    assert model.config.letter_token_ids == [68, 73] and tokenizer("N")["input_ids"] == [3, 72]


def test_a_bare_encoder(published: Path, tmp_path: Path) -> None:
    tensors = load_file(published / "model.safetensors")
    bare = {name.removeprefix("esm."): tensor for name, tensor in tensors.items() if not name.startswith("lm_head")}
    save_file(bare | {"pooler.dense.bias": torch.zeros(24)}, published / "model.safetensors")
    config = json.loads((published / "config.json").read_text()) | {"architectures": ["EsmModel"]}
    (published / "config.json").write_text(json.dumps(config))
    report = convert_nucleotide_transformer(published, tmp_path / "ours")
    assert report.model_class == "NucleotideTransformerModel"
    assert report.unused_tensors == ["esm.pooler.dense.bias"]
    model = AutoModel.from_pretrained(tmp_path / "ours")
    expected = {name: tensor for name, tensor in tensors.items() if name.startswith("esm.")}
    found = to_published_state_dict(model)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("asked", [None, torch.bfloat16])
def test_half_precision_is_kept(published: Path, tmp_path: Path, asked: torch.dtype | None) -> None:
    tensors = {name: tensor.half() for name, tensor in load_file(published / "model.safetensors").items()}
    save_file(tensors, published / "model.safetensors")
    report = convert_nucleotide_transformer(published, tmp_path / "ours", dtype=asked)
    assert report.dtypes == {"float16": len(tensors)} and report.dtype == ("bfloat16" if asked else "float16")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    assert model.dtype == (asked or torch.float16)
    is_told = "but for their data type (now\nbfloat16)" in (tmp_path / "ours" / "README.md").read_text()
    assert is_told == (asked is not None)


def test_mixed_precision_is_told(published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = load_file(published / "model.safetensors")
    tensors = {name: tensor.half() if "layer.0." in name else tensor for name, tensor in tensors.items()}
    save_file(tensors, published / "model.safetensors")
    report = convert_nucleotide_transformer(published, tmp_path / "ours")
    assert len(report.dtypes) == 2 and report.dtype == "float32"
    assert "several data types" in caplog.text and "all become float32" in caplog.text
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").dtype == torch.float32


def test_nothing_is_written_over(published: Path, tmp_path: Path) -> None:
    convert_nucleotide_transformer(published, tmp_path / "ours")
    with pytest.raises(FileExistsError, match="ours holds a model: name another folder, or pass overwrite"):
        convert_nucleotide_transformer(published, tmp_path / "ours")
    before = sorted(path.name for path in (tmp_path / "ours").iterdir())
    convert_nucleotide_transformer(published, tmp_path / "ours", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == before


def test_vocab_file_beside_or_given(published: Path, tmp_path: Path) -> None:
    shutil.move(published / "vocab.txt", tmp_path / "vocab.txt")
    with pytest.raises(FileNotFoundError, match=r"no vocabulary at .*give the model's own vocab\.txt"):
        convert_nucleotide_transformer(published, tmp_path / "ours")
    convert_nucleotide_transformer(published, tmp_path / "ours", vocab_file=tmp_path / "vocab.txt")


QUERY = "esm.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(QUERY), rf"1 missing: {QUERY}\. The weights are not whole"),
        (
            lambda t: [t.pop(name) for name in list(t) if "layer.1." in name],
            r"14 missing: esm\.encoder\.layer\.1\.LayerNorm\.bias, .*\(6 more\)",
        ),
        (lambda t: t.update({"esm.extra": torch.ones(1)}), r"1 unexpected: esm\.extra"),
        (lambda t: t.update({QUERY: torch.ones(24, 12)}), rf"of another shape: {QUERY} \(24, 12\) \(expected \(24, 24"),
        (lambda t: t.pop("lm_head.bias"), r"1 missing: lm_head\.bias"),
        (lambda t: t.pop("lm_head.decoder.weight"), r"1 missing: lm_head\.decoder\.weight"),
        (
            lambda t: t.update({"esm.embeddings.word_embeddings.weight": torch.ones(80, 24)}),
            r"word_embeddings\.weight \(80, 24\) \(expected \(75, 24\)\)",
        ),
        (
            lambda t: t.update({"esm.encoder.layer.0.intermediate.dense.bias": torch.ones(64)}),
            r"1 unexpected: esm\.encoder\.layer\.0\.intermediate\.dense\.bias",
        ),
    ],
)
def test_bad_tensors_are_named(published: Path, tmp_path: Path, change: Any, message: str) -> None:
    tensors = load_file(published / "model.safetensors")
    change(tensors)
    save_file(tensors, published / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        convert_nucleotide_transformer(published, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_head_that_is_not_there_is_named(tmp_path: Path) -> None:
    tensors = publish(random_model(is_segmentation=True), tmp_path / "published")
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("esm.")}
    save_file(encoder | {"lm_head.bias": torch.zeros(75)}, tmp_path / "published" / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: fc\.bias, fc\.weight, unet\._downsample_blocks\.0"):
        convert_nucleotide_transformer(tmp_path / "published", tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 76}, r"vocab\.txt has 75 tokens, and vocab_size in config\.json is 76"),
        ({"vocab_size": 74}, r"vocab\.txt has 75 tokens, and vocab_size in config\.json is 74"),
        ({"vocab_size": None}, r"vocab_size in config\.json is None"),
        ({"model_type": "bert"}, "'bert'"),
        ({"num_hidden_layers": 3}, r"14 missing: esm\.encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, r"14 unexpected: esm\.encoder\.layer\.1"),
        ({"tie_word_embeddings": True}, "and the two differ: set tie_word_embeddings to false"),
    ],
)
def test_other_configurations_are_named(published: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = json.loads((published / "config.json").read_text()) | changes
    (published / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        convert_nucleotide_transformer(published, tmp_path / "ours")


def test_a_protein_model_is_refused(published: Path, tmp_path: Path) -> None:
    (published / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC"]))
    with pytest.raises(ValueError, match=r"vocab\.txt: 15 tokens are neither k-mers"):
        convert_nucleotide_transformer(published, tmp_path / "ours")
