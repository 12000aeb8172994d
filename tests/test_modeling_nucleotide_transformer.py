"""The Nucleotide Transformer against plain NumPy, against the public JAX code's answers, and packed against padded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import (
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerModel,
    rotate,
)
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
FIRST_VERSION = {"position_embedding_type": "absolute", "hidden_act": "gelu", "mlp_bias": True, "token_dropout": True}


def make_model(seed: int = 0, **fields: object) -> NucleotideTransformerForMaskedLM:
    torch.manual_seed(seed)
    model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**{**SIZES, **fields})).eval()
    for parameter in model.parameters():  # biases and norms too, so that nothing is 0 or 1 by chance
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return model


def make_batch(lengths: tuple[int, ...] = (9, 4, 7), seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(6, 4102, (len(lengths), max(lengths)), generator=generator)
    input_ids[:, 0] = 3
    return input_ids.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], 1)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def plain_rotation(x: np.ndarray, factor: float | None = None) -> np.ndarray:
    """x (tokens, size of a head): complex numbers (x_i, x_{i + d/2}) times exp(i position / base^(2 i / d))."""
    tokens, size = x.shape
    base = 10_000.0 * (1.0 if factor is None else factor ** (size / (size - 2)))
    frequencies = base ** (-2 * np.arange(size // 2) / size)
    turned = (x[:, : size // 2] + 1j * x[:, size // 2 :]) * np.exp(1j * np.outer(np.arange(tokens), frequencies))
    return np.concatenate((turned.real, turned.imag), axis=1)


def plain_layer(x: np.ndarray, state: dict[str, np.ndarray], heads: int, factor: float | None) -> np.ndarray:
    """One block on one sequence, x (tokens, hidden)."""
    size = x.shape[1] // heads
    normed = layer_norm(x, state["attention_norm.weight"], state["attention_norm.bias"])
    query, key, value = (
        normed @ state[f"attention.{name}.weight"].T + state[f"attention.{name}.bias"]
        for name in ("query", "key", "value")
    )
    attended = np.empty_like(x)
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        scores = plain_rotation(query[:, columns] * size**-0.5, factor) @ plain_rotation(key[:, columns], factor).T
        weights = np.exp(scores - scores.max(1, keepdims=True))
        attended[:, columns] = weights / weights.sum(1, keepdims=True) @ value[:, columns]
    x = x + attended @ state["attention.output.weight"].T + state["attention.output.bias"]
    normed = layer_norm(x, state["feed_forward_norm.weight"], state["feed_forward_norm.bias"])
    gate, values = np.split(normed @ state["feed_forward.input.weight"].T, 2, axis=1)
    return x + (gate / (1 + np.exp(-gate)) * values) @ state["feed_forward.output.weight"].T


@pytest.mark.parity
@pytest.mark.parametrize("factor", [None, 2.44])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_block_is_the_plain_one(factor: float | None, attention: str) -> None:
    model = make_model(rescaling_factor=factor).encoder
    model.set_attn_implementation(attention)
    input_ids = make_batch((9,))
    with torch.no_grad():
        states = model(input_ids, output_hidden_states=True).hidden_states
    layer = {name: tensor.double().numpy() for name, tensor in model.layers[0].state_dict().items()}
    expected = plain_layer(states[0][0].double().numpy(), layer, 3, factor)
    np.testing.assert_allclose(states[1][0].numpy(), expected, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("factor", [None, 2.44])
def test_the_rotation_is_the_plain_one(factor: float | None) -> None:
    model = NucleotideTransformerModel(NucleotideTransformerConfig(**SIZES, rescaling_factor=factor))
    states = torch.randn(2, 3, 50, 8)
    found = rotate(states, *model._rotation(torch.zeros(1, 50, 24))).numpy()
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(found[place], plain_rotation(states[place].double().numpy(), factor), atol=1e-5)


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
        (r"^lm_head\.bias", "lm_head.decoder.bias"),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parity
@pytest.mark.real_data
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_public_jax_code_gives_the_same(data_folder: Path, attention: str) -> None:
    folder = data_folder / "parity" / "nt"
    published = json.loads((folder / "config.json").read_text())
    fields = {name: published[name] for name in (*SIZES, "layer_norm_eps")}
    model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**fields)).eval()
    model.set_attn_implementation(attention)
    state = {renamed(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    state.pop("encoder.embeddings.position_embeddings.weight")
    model.load_state_dict(state, strict=True)
    answers = np.load(folder / "jax.npz")
    tokens = torch.from_numpy(answers["tokens"])
    with torch.no_grad():
        found = model(tokens, output_hidden_states=True)
    is_token = (tokens != 1).numpy()
    embeddings = found.hidden_states[-1].numpy()
    np.testing.assert_allclose(embeddings[is_token], answers["embeddings"][is_token], atol=1e-5)
    np.testing.assert_allclose(found.logits.numpy()[is_token], answers["logits"][is_token], atol=1e-5)


@pytest.mark.parametrize("fields", [{}, FIRST_VERSION, {"rescaling_factor": 3.0}])
def test_packed_padded_and_alone_are_the_same(fields: dict) -> None:
    model = make_model(**fields)
    input_ids = make_batch((9, 4, 7, 1))
    is_token = input_ids != 1
    with torch.no_grad():
        packed = model(input_ids, output_hidden_states=True)
        padded = model(input_ids, output_attentions=True, output_hidden_states=True)
        alone = [model(row[kept].unsqueeze(0)).logits[0] for row, kept in zip(input_ids, is_token, strict=True)]
    assert packed.attentions is None and padded.attentions[0].shape == (4, 3, 9, 9)
    for ours, theirs in zip(packed.hidden_states, padded.hidden_states, strict=True):
        torch.testing.assert_close(ours[is_token], theirs[is_token], atol=2e-5, rtol=1e-4)
        assert not ours[~is_token].any()
    torch.testing.assert_close(packed.logits[is_token], torch.cat(alone), atol=2e-5, rtol=1e-4)


def test_a_packed_batch_has_the_gradients_of_a_padded_one() -> None:
    model = make_model()
    input_ids = make_batch()
    labels = torch.where(input_ids > 3, input_ids, -100)
    gradients = []
    for attention in ("sdpa", "eager"):  # packed, padded
        model.set_attn_implementation(attention)
        model.zero_grad()
        model(input_ids, labels=labels).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-3)


def test_packing_leaves_padding_out_of_the_feed_forward_network() -> None:
    model = make_model().encoder
    seen = []
    model.layers[0].feed_forward.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    model(make_batch((9, 4, 7)))
    model(make_batch((9, 9, 9)))
    assert seen == [(1, 20, 24), (3, 9, 24)]


def test_padding_may_stand_in_front() -> None:
    model = make_model().encoder
    input_ids = make_batch((9, 9))
    mask = torch.ones_like(input_ids)
    mask[1, :4] = 0
    with torch.no_grad():
        packed = model(input_ids, attention_mask=mask).last_hidden_state
        model.set_attn_implementation("eager")
        padded = model(input_ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


def test_attention_maps_are_distributions_over_tokens() -> None:
    model = make_model()
    with torch.no_grad():
        attentions = model(make_batch(), output_attentions=True).attentions
    assert len(attentions) == 2
    assert not attentions[0][1, :, :, 4:].any()
    torch.testing.assert_close(attentions[0].sum(-1), torch.ones(3, 3, 9))


def test_gradient_checkpointing_changes_nothing() -> None:
    model = make_model().train()
    input_ids = make_batch()
    labels = torch.where(input_ids > 3, input_ids, -100)
    model(input_ids, labels=labels).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing_enable()
    calls = []
    model.encoder.layers[0].attention.register_forward_hook(lambda *arguments: calls.append(1))
    model(input_ids, labels=labels).loss.backward()
    assert len(calls) == 2  # the backward pass computes the layer once more
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_bfloat16_and_autocast_stay_near() -> None:
    model = make_model()
    input_ids = make_batch()
    with torch.no_grad():
        expected = model.encoder(input_ids).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model.encoder(input_ids).last_hidden_state
        half = model.to(torch.bfloat16).encoder(input_ids).last_hidden_state
    assert half.dtype == torch.bfloat16
    scale = expected.abs().max()
    assert (autocast.float() - expected).abs().max() < 0.1 * scale
    assert (half.float() - expected).abs().max() < 0.1 * scale


@pytest.mark.parametrize(
    ("fields", "message"),
    [({}, r"rescaling_factor = tokens / 8 \(here 1.125\)"), ({"position_embedding_type": "absolute"}, "cut the sequ")],
)
def test_inputs_beyond_the_trained_length_are_refused(fields: dict, message: str) -> None:
    model = make_model(max_position_embeddings=10, **fields)
    model(make_batch((8, 5)))
    with pytest.raises(ValueError, match=f"9 tokens with <cls>, and the model was trained with at most 8.*{message}"):
        model(make_batch((9, 5)))


def test_rescaling_admits_longer_inputs() -> None:
    model = make_model(max_position_embeddings=10, rescaling_factor=2.0)
    assert model(make_batch((16,))).logits.shape == (1, 16, 4107)


def test_either_ids_or_embeddings() -> None:
    model = make_model().encoder
    input_ids = make_batch((6, 6))
    embeddings = model.embeddings.word_embeddings(input_ids)
    torch.testing.assert_close(model(inputs_embeds=embeddings), model(input_ids))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(input_ids, inputs_embeds=embeddings)


@pytest.mark.parametrize("fields", [{}, FIRST_VERSION, {"emb_layer_norm_before": True, "tie_word_embeddings": True}])
def test_save_and_load_through_auto_classes(tmp_path: Path, fields: dict) -> None:
    model = make_model(**fields)
    model.save_pretrained(tmp_path)
    input_ids = make_batch()
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is NucleotideTransformerForMaskedLM and type(encoder) is NucleotideTransformerModel
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids).logits, model(input_ids).logits)
        torch.testing.assert_close(encoder(input_ids), model.encoder(input_ids))


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = NucleotideTransformerModel(NucleotideTransformerConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == (
        4107 * 512 + 12 * (4 * (512 * 512 + 512) + 512 * 4096 + 2048 * 512 + 4 * 512) + 2 * 512
    )


def test_composed_embeddings_are_sums_over_bases() -> None:
    model = make_model().encoder
    model.compose_kmer_embeddings(seed=3)
    weight = model.embeddings.word_embeddings.weight.detach()
    first, tokens = weight.clone(), NucleotideKmerTokenizer()

    def of(kmer: str) -> torch.Tensor:
        return weight[tokens.convert_tokens_to_ids(kmer)]

    change = of("ACGTAC") - of("ACGTAG")  # another last base, whatever comes before it
    torch.testing.assert_close(of("TTTTTC") - of("TTTTTG"), change, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(of("CTTTTT") - of("GTTTTT"), change, atol=1e-3)
    assert weight[6:4102].std() == pytest.approx(0.02, rel=0.1)
    model.compose_kmer_embeddings(seed=3)
    assert torch.equal(first, weight)
    model.compose_kmer_embeddings(seed=4)
    assert not torch.equal(first[6:4102], weight[6:4102]) and torch.equal(first[:6], weight[:6])


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_attention_on_a_gpu(attention: str) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    model = make_model()
    input_ids = make_batch()
    with torch.no_grad():
        expected = model.encoder(input_ids).last_hidden_state
        model = model.to("cuda", torch.bfloat16)
        model.set_attn_implementation(attention)
        found = model.encoder(input_ids.cuda()).last_hidden_state.float().cpu()
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
