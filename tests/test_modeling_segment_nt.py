"""SegmentNT against the public JAX code's answers; base by base through N; loss; encoders from other models."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.focal_loss import focal_loss
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
LETTERS = {"A": 4102, "T": 4103, "C": 4104, "G": 4105, "N": 4106}


def make_model(seed: int = 0, **fields: object) -> SegmentNTForTokenClassification:
    torch.manual_seed(seed)
    return SegmentNTForTokenClassification(SegmentNTConfig(**{**SIZES, **fields})).eval()


def plain_tokens(sequence: str) -> list[int]:
    """Six-mers from the left, restarting behind every N; what does not fill six letters goes letter by letter."""
    tokens, place = [3], 0
    while place < len(sequence):
        kmer = sequence[place : place + 6]
        if len(kmer) == 6 and "N" not in kmer:
            tokens.append(6 + sum("ATCG".index(base) * 4 ** (5 - i) for i, base in enumerate(kmer)))
            place += 6
        else:
            tokens.append(LETTERS[sequence[place]])
            place += 1
    return tokens


def batch_of(*sequences: str) -> torch.Tensor:
    rows = [torch.tensor(plain_tokens(sequence)) for sequence in sequences]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def renamed(name: str) -> str:
    """Published name -> ours, written a second time on purpose: the converter has its own table."""
    rules = [
        (r"^esm\.encoder\.emb_layer_norm_after", "encoder.final_norm"),
        (r"^esm\.embeddings", "encoder.embeddings"),
        (r"^esm\.encoder\.layer\.(\d+)\.", r"encoder.layers.\1."),
        (r"attention\.self\.", "attention."),
        (r"attention\.output\.dense", "attention.output"),
        (r"attention\.LayerNorm", "attention_norm"),
        (r"intermediate\.dense", "feed_forward.input"),
        (r"(layers\.\d+)\.output\.dense", r"\1.feed_forward.output"),
        (r"(layers\.\d+)\.LayerNorm", r"\1.feed_forward_norm"),
        (r"^unet\._(down|up)sample_blocks", r"unet.\1"),
        (r"^unet\.final_block", "unet.final"),
        (r"conv_layers", "convolutions"),
        (r"^fc\.", "classifier."),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parity
@pytest.mark.real_data
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", ["segment", "segment_rescaled"])
def test_the_public_jax_code_gives_the_same(data_folder: Path, case: str, attention: str) -> None:
    folder = data_folder / "parity" / case
    published = json.loads((folder / "config.json").read_text())
    fields = {name: published[name] for name in (*SIZES, "layer_norm_eps")}
    fields["rescaling_factor"] = published.get("rescaling_factor")
    model = SegmentNTForTokenClassification(SegmentNTConfig(**fields)).eval()
    model.set_attn_implementation(attention)
    state = {renamed(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    state.pop("encoder.embeddings.position_embeddings.weight")
    model.load_state_dict(state, strict=True)
    answers = np.load(folder / "jax.npz")
    tokens = torch.from_numpy(answers["tokens"])[: len(answers["logits"])]
    with torch.no_grad():
        found = model(tokens, output_hidden_states=True)
    np.testing.assert_allclose(found.hidden_states[-1].numpy(), answers["embeddings"], atol=1e-5)
    np.testing.assert_allclose(found.logits.numpy(), answers["logits"], atol=1e-5)
    assert list(model.config.id2label.values()) == published["features"]


@settings(max_examples=25)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=40), min_size=1, max_size=4))
def test_each_base_has_its_logits_and_n_is_masked(sequences: list[str]) -> None:
    model = make_model()
    with torch.no_grad():
        found = model(batch_of(*sequences))
    longest = max(map(len, sequences))
    assert found.logits.shape == (len(sequences), longest, 14, 2)
    for row, sequence in enumerate(sequences):
        expected = [letter != "N" for letter in sequence] + [False] * (longest - len(sequence))
        assert found.base_mask[row].tolist() == expected


def test_the_logits_of_bases_are_those_of_their_tokens_slots() -> None:
    model = make_model()
    sequence = random_sequence(20) + "N" + random_sequence(15, seed=1)
    input_ids = batch_of(sequence)
    slots = {}
    handle = model.classifier.register_forward_hook(lambda module, inputs, output: slots.update(all=output))
    with torch.no_grad():
        found = model(input_ids).logits[0]
    handle.remove()
    by_token = slots["all"].view(-1, 6, 14, 2)
    sizes = [6 if token < 4102 else 1 for token in input_ids[0, 1:].tolist()]
    expected = torch.cat([by_token[token, :size] for token, size in enumerate(sizes)])
    assert sum(sizes) == len(sequence)
    torch.testing.assert_close(found, expected)


def test_a_sequence_is_the_same_alone_and_in_a_batch() -> None:
    model = make_model()
    sequences = [random_sequence(length, seed=length) for length in (60, 37, 48, 5)] + ["ACGTNNACGTACGTTTACG"]
    with torch.no_grad():
        together = model(batch_of(*sequences)).logits
        for row, sequence in enumerate(sequences):
            alone = model(batch_of(sequence)).logits[0]
            torch.testing.assert_close(together[row, : len(sequence)], alone, atol=1e-5, rtol=1e-4)


def test_the_loss_leaves_n_padding_and_unscored_bases_out() -> None:
    model = make_model(class_weights=[1.0] * 13 + [4.0])
    input_ids = batch_of(random_sequence(12) + "N" + random_sequence(7), random_sequence(9))
    labels = torch.randint(0, 2, (2, 20, 14), generator=torch.Generator().manual_seed(0))
    labels[0, :3] = -100
    labels[1, 9:] = -100
    found = model(input_ids, labels=labels.to(torch.int8))
    scored = torch.zeros(2, 20, dtype=torch.bool)
    scored[0, 3:] = True
    scored[0, 12] = False
    scored[1, :9] = True
    weights = torch.tensor(model.config.class_weights)
    expected = focal_loss(found.logits[scored], labels[scored], 2.0, class_weights=weights)
    torch.testing.assert_close(found.loss, expected)


def test_it_learns_where_a_motif_is() -> None:
    """From random weights: a base of the first T of TATA gets the element."""
    torch.manual_seed(0)
    model = make_model(id2label={0: "motif"}, focal_gamma=2.0).train()
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        sequences = ["".join(random.choice(list("ACGT"), 48)) for _ in range(32)]
        sequences = [sequence[:18] + "TATATA" + sequence[24:] for sequence in sequences]
        labels = torch.zeros(32, 48, 1, dtype=torch.int8)
        labels[:, 18] = 1
        loss = model(batch_of(*sequences), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_class_priors_are_what_an_untrained_model_predicts() -> None:
    model = make_model()
    with torch.no_grad():
        model.classifier.weight.zero_()
    frequencies = torch.linspace(0.001, 0.9, 14)
    model.set_class_priors(frequencies)
    with torch.no_grad():
        probabilities = model(batch_of(random_sequence(30))).logits.softmax(-1)[..., 1]
    torch.testing.assert_close(probabilities, frequencies.expand(1, 30, 14))
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(14,\)"):
        model.set_class_priors(frequencies[:3])


def test_a_random_head_does_not_vanish() -> None:
    logits = make_model(hidden_size=96)(batch_of(random_sequence(600))).logits
    assert 0.01 < logits.std() < 10


@pytest.mark.parametrize("kind", ["masked-lm", "encoder", "segment-nt"])
def test_the_encoder_of_another_model_is_taken(tmp_path: Path, kind: str) -> None:
    if kind == "segment-nt":
        source = make_model(seed=5, id2label={0: "exon"})
    else:
        torch.manual_seed(5)
        source = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES))
    (source.encoder if kind == "encoder" else source).save_pretrained(tmp_path)
    model = make_model()
    model.load_encoder(tmp_path)
    for name, tensor in model.encoder.state_dict().items():
        torch.testing.assert_close(tensor, source.encoder.state_dict()[name])


def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    make_model(num_hidden_layers=1).save_pretrained(tmp_path / "shallow")
    with pytest.raises(ValueError, match=r"missing encoder|missing layers\.1\."):
        make_model().load_encoder(tmp_path / "shallow")
    make_model(intermediate_size=44).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"feed_forward\.input\.weight \(88, 24\), expected \(80, 24\)"):
        make_model().load_encoder(tmp_path / "wide")
    make_model(num_attention_heads=2).save_pretrained(tmp_path / "heads")
    with pytest.raises(ValueError, match=r"num_attention_heads 2 \(here 3\)"):
        make_model().load_encoder(tmp_path / "heads")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        make_model().load_encoder(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no model"):
        make_model().load_encoder(tmp_path / "empty")
    save_file({"encoder.other": torch.zeros(1)}, tmp_path / "empty" / "model.safetensors")
    with pytest.raises(ValueError, match="unexpected other"):
        make_model().load_encoder(tmp_path / "empty")


def test_a_frozen_encoder_is_not_trained() -> None:
    model = make_model().train()
    model.freeze_encoder()
    model(batch_of(random_sequence(24)), labels=torch.ones(1, 24, 14, dtype=torch.int8)).loss.backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.unet.parameters())


def test_embeddings_in_place_of_tokens() -> None:
    model = make_model()
    input_ids = batch_of("ACGTACNACGTT")
    embeddings = model.encoder.embeddings.word_embeddings(input_ids)
    found = model(input_ids, inputs_embeds=embeddings)
    torch.testing.assert_close(found.logits, model(input_ids).logits)
    assert found.logits.shape[1] == 12


def test_wrong_input_is_named() -> None:
    model = make_model(max_position_embeddings=10)
    with pytest.raises(ValueError, match=r"must begin with <cls> \(3\), found \[6\]"):
        model(torch.tensor([[6, 7, 8]]))
    with pytest.raises(ValueError, match=r"labels have shape \(1, 5, 14\), and the tokens stand for \(1, 6, 14\)"):
        model(batch_of("ACGTAC"), labels=torch.zeros(1, 5, 14))
    with pytest.raises(ValueError, match=r"9 tokens with <cls>.*at most 8"):
        model(batch_of(random_sequence(48)))


def test_save_and_load_through_the_auto_class(tmp_path: Path) -> None:
    model = make_model(id2label={0: "exon", 1: "intron"}, thresholds=[0.3, 0.6], window_bp=96, unet_channels=[6, 8, 9])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    assert type(loaded) is SegmentNTForTokenClassification
    assert (loaded.config.thresholds, loaded.config.window_bp) == ([0.3, 0.6], 96)
    input_ids = batch_of(random_sequence(33))
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids).logits, model(input_ids).logits)
