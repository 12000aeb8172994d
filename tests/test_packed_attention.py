"""Packed cells against the same cells padded, through attention alone and through Bio-DTA."""

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers.models.bert.modeling_bert import BertEncoder

from omics_transformers.modeling import packed_attention
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.packed_attention import (
    cells_of_tokens,
    ranks_within_cells,
    take_packed_cells,
)

VOCABULARY, FEATURES, MAX_LENGTH = 40, 12, 24
LENGTHS = [7, 1, 10, 4]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make_model(**changes: Any) -> BioDTAForMaskedLM:
    torch.manual_seed(0)
    config = BioDTAConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 48,
            "max_position_embeddings": MAX_LENGTH,
            "dna_feature_size": FEATURES,
            **changes,
        }
    )
    model = BioDTAForMaskedLM(config).train()
    if config.adapter_type != "none":
        model.set_gene_features(3 + 2 * torch.randn(VOCABULARY, FEATURES))
        if config.variant_encoding == "difference":
            torch.nn.init.normal_(model.bert.gene_token_embeddings.difference_adapter.weight)
    return model


def make_padded(lengths: list[int], *, variants: bool = False, seed: int = 1) -> dict[str, torch.Tensor]:
    """Cells of random genes, the first and every fourth gene masked."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    attention_mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    genes = torch.randint(2, VOCABULARY, (len(lengths), longest), generator=generator) * attention_mask
    masked = (torch.arange(longest) % 4 == 0) & attention_mask.bool()
    batch = {
        "input_ids": torch.where(masked, 1, genes),
        "attention_mask": attention_mask,
        "labels": torch.where(masked, genes, -100),
    }
    if variants:
        batch["variant_features"] = torch.randn(3, FEATURES, generator=generator)
        ids = torch.randint(-1, 3, genes.shape, generator=generator)
        batch["variant_ids"] = torch.where(attention_mask.bool(), ids, -1)
    return batch


def packed(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The same cells, laid end to end."""
    filled = batch["attention_mask"].bool()
    lengths = filled.sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    per_token = {
        name: batch[name][filled].unsqueeze(0) for name in ("input_ids", "labels", "variant_ids") if name in batch
    }
    whole = {name: batch[name] for name in ("variant_features",) if name in batch}
    longest = int(lengths.max())
    return {
        **per_token,
        **whole,
        "position_ids": filled.cumsum(1)[filled].unsqueeze(0) - 1,
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def loss_and_gradients(model: BioDTAForMaskedLM, batch: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parity
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"adapter_type": "none"}, {"variant_encoding": "replace"}, {"variant_encoding": "difference"}],
    ids=str,
)
def test_loss_and_every_gradient_equal_those_of_padded_cells(attention: str, changes: dict[str, str]) -> None:
    model = make_model(attn_implementation=attention, **NO_DROPOUT, **changes)
    batch = make_padded(LENGTHS, variants="variant_encoding" in changes)
    loss, gradients = loss_and_gradients(model, batch)
    packed_loss, packed_gradients = loss_and_gradients(model, packed(batch))
    torch.testing.assert_close(packed_loss, loss, atol=1e-5, rtol=0)
    for found, expected in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_hidden_states_equal_those_of_padded_cells(lengths: list[int], seed: int) -> None:
    model = make_model().eval()
    batch = make_padded(lengths, seed=seed)
    filled = batch.pop("attention_mask").bool()
    expected = model.bert(input_ids=batch["input_ids"], attention_mask=filled.long()).last_hidden_state[filled]
    cells = packed({**batch, "attention_mask": filled.long()})
    del cells["labels"]
    found = model.bert(**cells).last_hidden_state
    assert found.shape == (1, sum(lengths), 32)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    del cells["position_ids"]
    assert torch.equal(model.bert(**cells).last_hidden_state, found)


def test_neighbours_in_the_row_change_nothing() -> None:
    model = make_model().eval()
    cells, others = packed(make_padded(LENGTHS)), packed(make_padded(LENGTHS, seed=2))
    own = slice(8, 18)  # the third cell
    others["input_ids"][:, own] = cells["input_ids"][:, own]
    assert not torch.equal(others["input_ids"], cells["input_ids"])
    found, expected = (model(**batch, output_hidden_states=True).hidden_states[-1][:, own] for batch in (others, cells))
    assert torch.equal(found, expected)


def test_bfloat16_autocast_is_close_to_padded_cells() -> None:
    model = make_model(**NO_DROPOUT)
    batch = make_padded(LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients = loss_and_gradients(model, batch)
        packed_loss, packed_gradients = loss_and_gradients(model, packed(batch))
    torch.testing.assert_close(packed_loss, loss, atol=0.02, rtol=0)
    for found, expected in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.1)


def test_gradient_checkpointing_drops_the_same_weights_again() -> None:
    model = make_model(attention_probs_dropout_prob=0.3)
    cells = packed(make_padded(LENGTHS))
    torch.manual_seed(3)
    loss, gradients = loss_and_gradients(model, cells)
    model.activation_checkpointing_enable()
    torch.manual_seed(3)
    again, found = loss_and_gradients(model, cells)
    assert torch.equal(again, loss)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)
    torch.manual_seed(4)
    assert not torch.equal(model(**cells).loss, loss)


def test_hidden_states_and_attentions_of_packed_cells() -> None:
    model = make_model(attn_implementation="eager").eval()
    cells = packed(make_padded(LENGTHS))
    outputs = model(**cells, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(1, 22, 32)] * 3
    blocks = torch.block_diag(*[torch.ones(length, length) for length in LENGTHS]).bool()
    for attention in outputs.attentions:
        assert attention.shape == (1, 4, 22, 22)
        assert (attention[:, :, ~blocks] == 0).all() and (attention[:, :, blocks] > 0).all()
    with pytest.raises(ValueError, match=r"asked of sdpa attention.*eager"):
        make_model(attn_implementation="sdpa")(**cells, output_attentions=True)


def test_taking_packed_cells_keeps_names_and_values() -> None:
    config = make_model().config
    torch.manual_seed(5)
    encoder = BertEncoder(config)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    take_packed_cells(encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(encoder.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_cells_and_ranks_of_tokens() -> None:
    starts = torch.tensor([0, 3, 4, 6], dtype=torch.int32)
    assert cells_of_tokens(starts, 6).tolist() == [0, 0, 0, 1, 2, 2]
    assert ranks_within_cells(starts, 6).tolist() == [0, 1, 2, 0, 0, 1]


def test_padding_for_the_attention_alone_equals_the_kernel() -> None:
    """What devices without a kernel of their own do."""
    heads = [torch.randn(22, 4, 8).requires_grad_() for _ in range(3)]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    found = packed_attention._padded_attention(*heads, starts, 10, 0.0, 0.3)
    expected = packed_attention.packed_attention(*heads, starts, longest=10, scale=0.3)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), heads), torch.autograd.grad((expected * weights).sum(), heads)
    )


def test_cuda_kernels_take_these_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes and the existence of gradients, on tensors without data."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    starts = torch.empty(5, dtype=torch.int32, device="meta")
    for dtype, name in ((torch.bfloat16, "FlashAttention"), (torch.float32, "Squeeze")):
        heads = [torch.empty(22, 4, 64, dtype=dtype, device="meta").requires_grad_() for _ in range(3)]
        attended = packed_attention._cuda_attention(*heads, starts, 10, 0.02, 0.3)
        assert attended.shape == (22, 4, 64)
        assert name in attended.grad_fn.name()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention", "flash_attention_2"])
def test_packed_cells_on_a_gpu_agree_with_the_cpu(attention: str, dtype: torch.dtype) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
        if dtype == torch.float32:
            pytest.skip("FlashAttention takes half precision only")
    model = make_model(hidden_size=128, **NO_DROPOUT)
    cells = packed(make_padded(LENGTHS))
    loss, gradients = loss_and_gradients(model, cells)
    model.set_attn_implementation(attention)
    model = model.to("cuda")
    on_gpu = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in cells.items()}
    with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
        found, found_gradients = loss_and_gradients(model, on_gpu)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.cpu(), loss, atol=tolerance, rtol=0)
    for one, other in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=tolerance, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_on_a_gpu_keeps_the_mean(dtype: torch.dtype) -> None:
    heads = [torch.randn(200, 4, 64, device="cuda", dtype=dtype) for _ in range(3)]
    starts = torch.tensor([0, 150, 200], device="cuda", dtype=torch.int32)
    expected = packed_attention.packed_attention(*heads, starts, longest=150, scale=0.1).float()
    draws = [
        packed_attention.packed_attention(*heads, starts, longest=150, dropout=0.2, scale=0.1).float()
        for _ in range(400)
    ]
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(torch.stack(draws).mean(0), expected, atol=0.05, rtol=0)


def changed(**changes: Any) -> dict[str, Any]:
    cells = packed(make_padded(LENGTHS))
    return {name: value for name, value in {**cells, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (changed(max_length_q=None), "max_length_q are missing"),
        (changed(cu_seq_lens_q=None, cu_seq_lens_k=None), "cu_seq_lens_q, cu_seq_lens_k are missing"),
        (changed(attention_mask=torch.ones(1, 22)), "with an attention_mask: nothing is padded"),
        (changed(max_length_k=9), "max_length_q is 10 and max_length_k 9"),
        (changed(max_length_q=9, max_length_k=9), "have 1 to 10 tokens, and max_length_q is 9"),
        (changed(cu_seq_lens_k=torch.tensor([0, 22])), r"shape \(5,\) and cu_seq_lens_k \(2,\)"),
        (changed(cu_seq_lens_k=torch.tensor([0, 1, 2, 3, 22])), "for 22 tokens: expected the places"),
        (changed(**dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), torch.tensor([0, 9]))), "for 22 tokens"),
        (
            changed(**dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), torch.tensor([0, 0, 10, 22]))),
            "have 0 to 12 tokens",
        ),
        (
            changed(input_ids=torch.full((2, 22), 3), labels=None, position_ids=None),
            "come in 2 rows: lay the cells end to end",
        ),
    ],
)
def test_bad_packing_is_named(batch: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model()(**batch)


def test_a_packed_cell_longer_than_the_model_takes_is_named() -> None:
    with pytest.raises(ValueError, match="25 tokens, and the model takes at most 24"):
        make_model()(**packed(make_padded([3, 25])))


def test_many_packed_cells_may_be_longer_than_the_model_takes_of_one() -> None:
    batch = packed(make_padded([20, 20, 20]))
    assert batch["cu_seq_lens_q"][-1] > MAX_LENGTH
    assert all(end - start == 20 for start, end in pairwise(batch["cu_seq_lens_q"].tolist()))
    assert make_model()(**batch).loss.isfinite()
