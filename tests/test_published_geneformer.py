"""Conversion of Geneformer: parity with transformers' BERT, in silico deletion, the way back, and bad input."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import anndata
import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, pipeline

import omics_transformers  # noqa: F401 (registers the Auto classes)
from omics_transformers.cli import app
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.published_geneformer import convert_geneformer, publish_geneformer

GENES = [f"ENSG{number:011d}" for number in range(1, 41)]
SPECIAL = {"V1": ["<pad>", "<mask>"], "V2": ["<pad>", "<mask>", "<cls>", "<eos>"]}
SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
# Each differs from Bio-DTA's default in what is easily overlooked.
KINDS = {
    "V1": {"hidden_act": "relu", "max_position_embeddings": 64, "type_vocab_size": 2},
    "V2": {"hidden_act": "gelu", "max_position_embeddings": 48, "type_vocab_size": 3, "layer_norm_eps": 0.05},
}


def published_model(kind: str, **changes: Any) -> BertForMaskedLM:
    """A BERT none of whose tensors is zero or one throughout."""
    torch.manual_seed(0)
    n_tokens = len(GENES) + len(SPECIAL[kind])
    model = BertForMaskedLM(BertConfig(vocab_size=n_tokens, **(SIZES | KINDS[kind] | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def publish(model: BertForMaskedLM, folder: Path, kind: str) -> None:
    model.save_pretrained(folder)
    tokens = {token: number for number, token in enumerate([*SPECIAL[kind], *GENES])}
    (folder / "token_dictionary.json").write_text(json.dumps(tokens))
    medians = {gene: 1.0 + number / 10 for number, gene in enumerate(GENES)}
    (folder / "gene_medians.json").write_text(json.dumps(medians))
    symbols = {f"SYM{number}": gene for number, gene in enumerate(GENES)} | {"ALIAS": GENES[0], "OTHER": "ENSG9"}
    with gzip.open(folder / "gene_symbols.json.gz", "wt") as file:
        json.dump(symbols, file)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    publish(published_model("V1"), tmp_path / "published", "V1")
    return tmp_path / "published"


def batch(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    n_special = len(SPECIAL[kind])
    input_ids = torch.randint(0, n_special + len(GENES), (3, 30), generator=generator)
    attention_mask = (torch.arange(30) < torch.tensor([[30], [17], [4]])).long()
    return {"input_ids": input_ids.where(attention_mask.bool(), 0), "attention_mask": attention_mask}


@pytest.mark.parity
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["V1", "V2"])
def test_equals_transformers_bert(tmp_path: Path, kind: str, tied: bool) -> None:
    theirs = published_model(kind, tie_word_embeddings=tied)
    publish(theirs, tmp_path / "published", kind)
    report = convert_geneformer(tmp_path / "published", tmp_path / "converted")
    assert report.genes == 40 and report.special_tokens == SPECIAL[kind] and report.symbols == 40
    ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "converted").eval()
    assert isinstance(ours, BioDTAForMaskedLM)
    with torch.no_grad():
        expected, found = (model(**batch(kind), output_hidden_states=True) for model in (theirs, ours))
    kept = batch(kind)["attention_mask"].bool()
    assert len(found.hidden_states) == len(expected.hidden_states) == 4
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert (one - other)[kept].abs().max() < 1e-5
    assert (found.logits - expected.logits)[kept].abs().max() < 1e-5
    assert expected.logits.std() > 0.5
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "converted")
    assert tokenizer.model_max_length == KINDS[kind]["max_position_embeddings"]
    assert tokenizer.token_id_of_gene("SYM3") == len(SPECIAL[kind]) + 3


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["V1", "V2"])
def test_deleting_a_gene_is_geneformers_in_silico_deletion(tmp_path: Path, kind: str) -> None:
    theirs = published_model(kind)
    publish(theirs, tmp_path / "published", kind)
    convert_geneformer(tmp_path / "published", tmp_path / "converted")
    counts = np.random.default_rng(0).poisson(1.5, (12, len(GENES))).astype(np.float32)
    cells = anndata.AnnData(counts, var=pd.DataFrame(index=GENES))
    perturb = pipeline("gene-embedding-perturbation", model=str(tmp_path / "converted"), device="cpu")
    genes = perturb(cells, gene="SYM7", edit="delete").genes.set_index("gene_id")
    token, n_special = 7 + len(SPECIAL[kind]), len(SPECIAL[kind])
    moved: dict[int, list[float]] = {}
    for ids in perturb.tokenizer.encode_counts(counts, GENES)["input_ids"]:
        if token not in ids:
            continue
        with torch.no_grad():
            before, after = (
                theirs(torch.tensor(one)[None], output_hidden_states=True).hidden_states[2][0].double()
                for one in (ids, ids[ids != token])
            )
        cosine = torch.nn.functional.cosine_similarity(before[ids != token], after, dim=-1)
        for gene, value in zip(ids[ids != token].tolist(), cosine.tolist(), strict=True):
            moved.setdefault(gene, []).append(value)
    expected = {GENES[gene - n_special]: np.mean(values) for gene, values in moved.items() if gene >= n_special}
    assert set(genes.index) == set(expected) and len(expected) == 39
    for gene, cosine in expected.items():
        assert genes.loc[gene, "cosine_mean"] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_and_back(tmp_path: Path, tied: bool) -> None:
    theirs = published_model("V2", tie_word_embeddings=tied)
    publish(theirs, tmp_path / "published", "V2")
    convert_geneformer(tmp_path / "published", tmp_path / "converted")
    publish_geneformer(tmp_path / "converted", tmp_path / "back")
    back = BertForMaskedLM.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        assert torch.equal(back(**batch("V2")).logits, theirs(**batch("V2")).logits)
    if tied:
        first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("published", "back"))
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    for name in ("token_dictionary.json", "gene_medians.json"):
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads(
            (tmp_path / "published" / name).read_text()
        )
    assert json.loads((tmp_path / "back" / "gene_symbols.json").read_text())[GENES[2]] == "SYM2"
    convert_geneformer(tmp_path / "back", tmp_path / "again")
    assert torch.equal(
        AutoModelForMaskedLM.from_pretrained(tmp_path / "again").get_input_embeddings().weight,
        theirs.get_input_embeddings().weight,
    )


def test_a_model_with_an_adapter_has_no_way_back(tmp_path: Path) -> None:
    model = BioDTAForMaskedLM(BioDTAConfig(vocab_size=42, dna_feature_size=5, **SIZES, max_position_embeddings=16))
    model.set_gene_features(torch.randn(42, 5))
    model.save_pretrained(tmp_path / "model")
    tokens = {token: number for number, token in enumerate([*SPECIAL["V1"], *GENES])}
    (tmp_path / "model" / "token_dictionary.json").write_text(json.dumps(tokens))
    with pytest.raises(ValueError, match='adapter_type="linear", and BERT has no adapter'):
        publish_geneformer(tmp_path / "model", tmp_path / "back")


def test_old_files_with_every_twin_and_leftover(tmp_path: Path, published: Path) -> None:
    state = load_file(published / "model.safetensors")
    (published / "model.safetensors").unlink()
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"].clone()
    leftovers = {
        "bert.embeddings.position_ids": torch.arange(64)[None],
        "bert.pooler.dense.weight": torch.ones(24, 24),
        "bert.pooler.dense.bias": torch.ones(24),
    }
    for name in ("weight", "bias"):
        old = {"weight": "gamma", "bias": "beta"}[name]
        state[f"bert.embeddings.LayerNorm.{old}"] = state.pop(f"bert.embeddings.LayerNorm.{name}")
    torch.save(state | leftovers, published / "pytorch_model.bin")
    report = convert_geneformer(published, tmp_path / "converted")
    assert report.unused_tensors == sorted(leftovers)
    assert report.tensors == len(state)
    ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "converted").eval()
    with torch.no_grad():
        logits = published_model("V1")(**batch("V1")).logits
        assert torch.allclose(ours(**batch("V1")).logits, logits, atol=1e-5)


def test_what_config_json_leaves_out_is_berts_default(tmp_path: Path) -> None:
    theirs = published_model("V1", hidden_act="gelu", max_position_embeddings=512, intermediate_size=3072)
    publish(theirs, tmp_path / "published", "V1")
    path = tmp_path / "published" / "config.json"
    config = json.loads(path.read_text())
    for name in ("hidden_act", "max_position_embeddings", "intermediate_size", "type_vocab_size", "layer_norm_eps"):
        config.pop(name, None)
    path.write_text(json.dumps(config | {"position_embedding_type": "absolute", "gradient_checkpointing": False}))
    report = convert_geneformer(tmp_path / "published", tmp_path / "converted")
    assert "gradient_checkpointing" in report.unused_config_fields
    ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "converted").eval()
    with torch.no_grad():
        assert torch.allclose(ours(**batch("V1")).logits, theirs(**batch("V1")).logits, atol=1e-5)


def test_data_types_are_kept_or_chosen(tmp_path: Path, published: Path) -> None:
    assert convert_geneformer(published, tmp_path / "a", dtype=torch.bfloat16).dtype == "bfloat16"
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "a", dtype="auto").dtype == torch.bfloat16
    state = load_file(published / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, published / "model.safetensors")
    assert convert_geneformer(published, tmp_path / "b").dtype == "float16"


def test_the_folder_has_a_card_and_works_without_the_package(tmp_path: Path, published: Path) -> None:
    (published / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Geneformer\n")
    convert_geneformer(published, tmp_path / "converted")
    card = ModelCard.load(tmp_path / "converted" / "README.md")
    assert card.data.license == "apache-2.0" and "`published`" in card.text and str(tmp_path) not in card.text
    assert "40 genes; special tokens <pad> <mask>" in card.text
    config = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert config["adapter_type"] == "none" and "gene-embedding-perturbation" in config["custom_pipelines"]
    assert (tmp_path / "converted" / "gene_embedding_perturbation.py").is_file()


@pytest.mark.real_data
def test_the_published_vocabulary(tmp_path: Path, data_folder: Path) -> None:
    sets = data_folder / "genesets"
    config = BertConfig(vocab_size=25_426, **(SIZES | {"max_position_embeddings": 2048, "hidden_act": "relu"}))
    BertForMaskedLM(config).save_pretrained(tmp_path / "published")
    report = convert_geneformer(
        tmp_path / "published",
        tmp_path / "converted",
        token_dictionary=sets / "geneformer_v1_token_dictionary.json.gz",
        gene_medians=sets / "geneformer_v1_gene_medians.json.gz",
        gene_symbols=sets / "geneformer_v1_symbol_to_ensembl.json.gz",
    )
    assert report.genes == 25_424 and report.has_medians and report.symbols > 20_000
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "converted")
    assert tokenizer.decode_genes([tokenizer.token_id_of_gene("GATA4")]) == ["ENSG00000136574"]
    assert tokenizer.model_max_length == 2048


def test_a_subfolder_and_a_repository_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--org--geneformer" / "snapshots" / ("0" * 40)
    publish(published_model("V1"), snapshot / "V1-small", "V1")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    report = convert_geneformer("org/geneformer", tmp_path / "converted", subfolder="V1-small", revision="main")
    assert report.source == "org/geneformer/V1-small at revision main"
    with pytest.raises(FileNotFoundError, match="has no folder V3; it has V1-small"):
        convert_geneformer(snapshot, tmp_path / "other", subfolder="V3")
    with pytest.raises(FileNotFoundError, match="org/absent is no folder here"):
        convert_geneformer("org/absent", tmp_path / "other")


def test_the_command(tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "geneformer", str(published), str(tmp_path / "converted"), "--dtype=float16"]
    app(words, standalone_mode=False)
    assert "40 genes" in capsys.readouterr().out and (tmp_path / "converted" / "model.safetensors").is_file()


def test_without_medians_it_says_so(tmp_path: Path, published: Path, caplog: pytest.LogCaptureFixture) -> None:
    (published / "gene_medians.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert not convert_geneformer(published, tmp_path / "converted").has_medians
    assert "no gene medians were given" in caplog.text


def test_pickles_are_refused_with_the_remedy(tmp_path: Path, published: Path) -> None:
    (published / "medians.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ValueError, match=r"is a pickle, which may run any code.*json.dump.*medians.pkl medians.json"):
        convert_geneformer(published, tmp_path / "converted", gene_medians=published / "medians.pkl")
    (published / "token_dictionary.json").unlink()
    with pytest.raises(ValueError, match=r"medians.pkl is a pickle"):
        convert_geneformer(published, tmp_path / "converted")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, change: Any) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def drop_head(state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if name.startswith("cls.")]:
        del state[name]
    state["classifier.weight"] = torch.ones(3, 24)


TOKENS = {token: number for number, token in enumerate([*SPECIAL["V1"], *GENES])}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda folder: change_config(folder, model_type="esm"), {}, "model_type 'esm', expected 'bert'"),
        (
            lambda folder: change_config(folder, position_embedding_type="relative_key"),
            {},
            "position_embedding_type 'relative_key'; only 'absolute'",
        ),
        (lambda folder: change_config(folder, is_decoder=True), {}, "is_decoder True"),
        (lambda folder: change_config(folder, pad_token_id=5), {}, "<pad> is 0 in the token dictionary.*is 5"),
        (
            lambda folder: change_tensors(folder, lambda state: state.pop("bert.encoder.layer.1.output.dense.bias")),
            {},
            "1 missing: bert.encoder.layer.1.output.dense.bias",
        ),
        (
            lambda folder: change_tensors(folder, lambda state: state.update({"x.weight": torch.ones(1)})),
            {},
            "1 unexpected: x.weight",
        ),
        (lambda folder: change_config(folder, type_vocab_size=1), {}, r"token_type_embeddings.weight \(2, 24\)"),
        (lambda folder: change_tensors(folder, drop_head), {}, "unexpected: classifier.weight; it has no head"),
        (
            lambda folder: change_tensors(
                folder, lambda state: state.update({"cls.predictions.decoder.weight": torch.ones(42, 24)})
            ),
            {},
            "ties cls.predictions.decoder.weight to bert.embeddings.word_embeddings.weight, and the two differ",
        ),
        (lambda folder: None, {"token_dictionary": dict(list(TOKENS.items())[:30])}, "has 30 tokens, and vocab_size"),
        (lambda folder: None, {"token_dictionary": TOKENS | {GENES[0]: 77}}, "must be 0 to 41, each once"),
        (
            lambda folder: None,
            {"token_dictionary": {("<eos>" if token == GENES[3] else token): n for token, n in TOKENS.items()}},
            "<eos> has the id 5, behind genes",
        ),
        (
            lambda folder: None,
            {"token_dictionary": {token.strip("<>"): n for token, n in TOKENS.items()}},
            "has no <pad> and no <mask>",
        ),
        (lambda folder: None, {"gene_symbols": {"A": "B"}}, "none of the 1 gene symbols"),
        (lambda folder: None, {"gene_medians": {GENES[0]: 1.0}}, "39 of 40 genes of the vocabulary have no positive"),
        (lambda folder: (folder / "gene_medians.json").write_text("[1]"), {}, "holds a JSON list"),
        (lambda folder: (folder / "gene_medians.json").write_text("{"), {}, "not a whole JSON file"),
        (lambda folder: (folder / "gene_symbols.json.gz").write_text("{}"), {}, "not a whole JSON file"),
    ],
)
def test_bad_input(tmp_path: Path, published: Path, change: Any, options: dict[str, Any], message: str) -> None:
    change(published)
    with pytest.raises(ValueError, match=message):
        convert_geneformer(published, tmp_path / "converted", **options)
    assert not (tmp_path / "converted").exists()


def test_missing_dictionaries_and_an_earlier_model(tmp_path: Path, published: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no gene medians at"):
        convert_geneformer(published, tmp_path / "converted", gene_medians=tmp_path / "absent.json")
    convert_geneformer(published, tmp_path / "converted")
    with pytest.raises(FileExistsError, match="holds a model"):
        convert_geneformer(published, tmp_path / "converted")
    convert_geneformer(published, tmp_path / "converted", overwrite=True)
    (published / "token_dictionary.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no token_dictionary.json in"):
        convert_geneformer(published, tmp_path / "other")
