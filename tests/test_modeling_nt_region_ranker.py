"""The region ranker: padding anywhere, lists of any length, cell types, losses, encoders passed on, and learning."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from omics_transformers.modeling.accessibility_scorers import SCORERS
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.ranking_losses import dense_ranks, listmle_loss, pairwise_logistic_loss, softmax_loss

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "num_tokens": 17,
}
FIRST_VERSION = {"position_embedding_type": "absolute", "hidden_act": "gelu", "mlp_bias": True, "token_dropout": True}
LABELS = torch.tensor([[0.0, 0.4, 1.5], [2.0, 0.0, 0.3]])


def make_model(seed: int = 0, **fields: object) -> NTRegionRanker:
    torch.manual_seed(seed)
    model = NTRegionRanker(NTRegionRankerConfig(**{**SIZES, **fields})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # random weights alone hardly mix tokens
            parameter.mul_(8.0 if name.startswith("encoder.layers") and name.endswith("weight") else 1.0)
    return model


def make_batch(lists: int = 2, regions: int = 3, tokens: int = 17, seed: int = 1) -> torch.Tensor:
    """<cls>, padding, a region's tokens, padding."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(6, 4102, (lists, regions, tokens), generator=generator)
    column = torch.arange(tokens)
    starts = torch.randint(1, tokens // 2, (lists, regions, 1), generator=generator)
    ends = starts + torch.randint(1, tokens // 2, (lists, regions, 1), generator=generator)
    input_ids[(column < starts) | (column >= ends)] = 1
    input_ids[..., 0] = 3
    return input_ids


@pytest.mark.parametrize("head", SCORERS)
@pytest.mark.parametrize("fields", [{}, FIRST_VERSION], ids=["rotary", "learned"])
def test_packed_and_padded_are_the_same_with_padding_anywhere(head: str, fields: dict) -> None:
    model = make_model(scorer_head=head, **fields)
    input_ids = make_batch()
    input_ids[1, 2] = 1  # and a region without a token
    with torch.no_grad():
        packed = model(input_ids)
        unpacked = model(input_ids, output_attentions=True, output_hidden_states=True)
        model.set_attn_implementation("eager")
        eager = model(input_ids)
    assert len(set(packed.scores.flatten().tolist())) == 6
    torch.testing.assert_close(packed.scores, unpacked.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed.scores, eager.scores, atol=1e-4, rtol=1e-4)
    assert unpacked.attentions[1].shape == (2, 3, 3, 17, 17)
    assert unpacked.hidden_states[-1].shape == (2, 3, 17, 24)


def test_the_place_of_a_region_within_padding_counts_by_columns() -> None:
    """Rotary positions are columns: <cls> is the farther from the tokens, the more padding stands between."""
    region = make_batch()[:1, :1, :9]
    region[..., 1:] = torch.arange(100, 108)
    near, far = (torch.nn.functional.pad(region, (0, 8), value=1) for _ in range(2))
    far[..., 1:] = near[..., 1:].roll(8, dims=2)
    for fields, is_same in (({}, False), (FIRST_VERSION, True)):
        encoder = make_model(**fields)
        with torch.no_grad():
            states = [encoder(ids, output_hidden_states=True).hidden_states[-1][0, 0] for ids in (near, far)]
        assert torch.allclose(states[0][1:9], states[1][9:17], atol=1e-5) == is_same


@pytest.mark.parametrize("regions", [2, 3, 7])
@pytest.mark.parametrize("head", SCORERS)
def test_permuted_regions_have_permuted_scores(head: str, regions: int) -> None:
    model = make_model(scorer_head=head)
    input_ids = make_batch(3, regions)
    order = torch.randperm(regions, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = model(input_ids).scores
        assert scores.shape == (3, regions)
        torch.testing.assert_close(model(input_ids[:, order]).scores, scores[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", SCORERS)
def test_shorter_inputs_are_scored_as_padded_ones(head: str) -> None:
    model = make_model(scorer_head=head)
    short = make_batch(tokens=11)
    padded = torch.nn.functional.pad(short, (0, 6), value=1)
    with torch.no_grad():
        torch.testing.assert_close(model(short).scores, model(padded).scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_regions_without_tokens_are_no_nan(implementation: str) -> None:
    model = make_model(**FIRST_VERSION).train()
    model.set_attn_implementation(implementation)
    input_ids = make_batch()
    input_ids[0, 1:] = 1
    mask = torch.tensor([[True, False, False], [True, True, True]])
    found = model(input_ids, labels=LABELS, region_mask=mask)
    found.loss.backward()
    assert torch.isfinite(found.scores).all() and found.scores[0, 1] == found.scores[0, 2]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    nothing = model(torch.ones_like(input_ids), labels=LABELS, region_mask=torch.zeros_like(mask))
    assert nothing.loss.item() == 0 and torch.isfinite(nothing.scores).all()


def test_embeddings_in_place_of_tokens() -> None:
    model = make_model()
    input_ids = make_batch()
    embeddings = model.encoder.embeddings.word_embeddings(input_ids)
    mask = (input_ids != 1).long()
    expected = model(input_ids).scores
    torch.testing.assert_close(model(inputs_embeds=embeddings, attention_mask=mask).scores, expected)
    torch.testing.assert_close(model(input_ids, inputs_embeds=embeddings).scores, expected)
    assert not torch.allclose(model(inputs_embeds=embeddings).scores, expected)


@pytest.mark.parametrize(
    ("name", "function"),
    [("softmax", softmax_loss), ("listmle", listmle_loss), ("pairwise_logistic", pairwise_logistic_loss)],
)
@pytest.mark.parametrize("labels", ["counts", "ranks"])
def test_the_loss_is_the_one_that_the_configuration_names(name: str, function: object, labels: str) -> None:
    model = make_model(ranking_loss=name, ranking_labels=labels)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = model(make_batch(), labels=LABELS, region_mask=mask)
    expected = dense_ranks(LABELS, mask) if labels == "ranks" else LABELS
    torch.testing.assert_close(found.loss, function(found.scores, expected, mask))
    unscored = model(make_batch(), labels=LABELS.masked_fill(~mask, -100))
    torch.testing.assert_close(unscored.loss, found.loss)


def test_losses_of_an_accumulated_step_sum_to_the_mean_over_its_lists() -> None:
    model = make_model()
    input_ids, labels = make_batch(6), torch.rand(6, 3)
    whole = model(input_ids, labels=labels).loss
    parts = [
        model(input_ids[rows], labels=labels[rows], num_items_in_batch=18).loss for rows in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_cell_types_begin_equal_and_then_change_scores() -> None:
    model = make_model(cell_types=["B", "T"], scorer_head="transformer")
    input_ids = make_batch().repeat_interleave(2, 0)[:, :2]
    types = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(0)
    plain = make_model(scorer_head="transformer")
    plain.load_state_dict({name: t for name, t in model.state_dict().items() if not name.startswith("cell_type")})
    scores = model(input_ids, cell_type_ids=types).scores
    torch.testing.assert_close(scores, plain(input_ids).scores)
    scores.sum().backward()
    assert model.cell_type_embeddings.weight.grad.abs().min(1).values.gt(0).all()
    with torch.no_grad():
        model.cell_type_embeddings.weight[1] += 1.0
        changed = model(input_ids, cell_type_ids=types).scores
    torch.testing.assert_close(changed[::2], scores[::2].detach())
    assert not torch.isclose(changed[1::2], scores[1::2]).any()
    names = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert names == {"encoder", "scorer", "cell_type_embeddings"}


def test_wrong_input_is_named() -> None:
    model, input_ids = make_model(), make_batch()
    with pytest.raises(ValueError, match=r"shape \(3, 17\), expected \(lists, regions, tokens\)"):
        model(input_ids[0])
    with pytest.raises(ValueError, match="neither input_ids nor inputs_embeds"):
        model()
    with pytest.raises(ValueError, match=r"regions have 18 tokens with <cls>, and config.num_tokens is 17"):
        model(make_batch(tokens=18))
    with pytest.raises(ValueError, match=r"1 of 6 regions do not begin with <cls> \(3\), but with \[1\]"):
        wrong = input_ids.clone()
        wrong[0, 0, 0] = 1
        model(wrong)
    with pytest.raises(ValueError, match=r"labels has shape \(2, 2\), expected \(2, 3\) \(lists, regions\)"):
        model(input_ids, labels=LABELS[:, :2])
    with pytest.raises(ValueError, match=r"region_mask has shape"):
        model(input_ids, region_mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"attention_mask has shape"):
        model(input_ids, attention_mask=torch.ones(2, 17))
    with pytest.raises(ValueError, match="scores do not depend on the cell type"):
        model(input_ids, cell_type_ids=torch.zeros(2, dtype=torch.long))


def test_wrong_cell_types_are_named() -> None:
    model, input_ids = make_model(cell_types=["B", "T"]), make_batch()
    with pytest.raises(ValueError, match=r"give cell_type_ids \(lists,\).*has 2: B, T"):
        model(input_ids)
    with pytest.raises(ValueError, match=r"hold \[-1, 2\]: expected places from 0 to 1"):
        model(input_ids, cell_type_ids=torch.tensor([2, -1]))
    with pytest.raises(ValueError, match=r"cell_type_ids has shape \(3,\), expected \(2,\)"):
        model(input_ids, cell_type_ids=torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("head", SCORERS)
def test_save_and_load_through_the_auto_class(tmp_path: Path, head: str) -> None:
    model = make_model(scorer_head=head, cell_types=["B", "T"], region_bp=60, span_bp=96)
    torch.nn.init.normal_(model.cell_type_embeddings.weight)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is NTRegionRanker
    assert (loaded.config.scorer_head, loaded.config.region_bp, loaded.config.span_bp) == (head, 60, 96)
    types = torch.tensor([1, 0])
    with torch.no_grad():
        expected = model(make_batch(), cell_type_ids=types).scores
        torch.testing.assert_close(loaded(make_batch(), cell_type_ids=types).scores, expected)


def test_the_encoder_of_a_saved_ranker_loads_alone(tmp_path: Path) -> None:
    model = make_model(cell_types=["B"])
    model.save_pretrained(tmp_path)
    encoder, report = NucleotideTransformerModel.from_pretrained(
        tmp_path, config=model.config, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, model.encoder.state_dict()[name])


@pytest.mark.parametrize("head", SCORERS)
def test_every_part_has_gradients_and_a_frozen_encoder_none(head: str) -> None:
    model = make_model(scorer_head=head).train()
    model(make_batch(), labels=LABELS).loss.backward()
    missing = {
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    # Softmax forgets a shift of all queries by a key, and the loss a shift of all scores.
    assert {name for name in missing if not name.endswith("bias")} == set()
    model.zero_grad()
    model.freeze_encoder()
    model(make_batch(), labels=LABELS).loss.backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.scorer.parameters())


def test_gradient_checkpointing_changes_nothing() -> None:
    model = make_model().train()
    model(make_batch(), labels=LABELS).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing_enable()
    calls = []
    model.encoder.layers[0].attention.register_forward_hook(lambda *arguments: calls.append(1))
    model(make_batch(), labels=LABELS).loss.backward()
    assert len(calls) == 2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("head", SCORERS)
def test_bfloat16_autocast_stays_near(head: str) -> None:
    torch.manual_seed(0)
    model = NTRegionRanker(NTRegionRankerConfig(**SIZES, scorer_head=head)).eval()
    expected = model(make_batch(), labels=LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(make_batch(), labels=LABELS)
    found.loss.backward()
    assert found.scores.dtype == found.loss.dtype == torch.float32
    assert (found.scores - expected.scores).abs().max() < 0.1 * expected.scores.abs().max()
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=0.02)


def motif_lists(random: np.random.Generator, lists: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three regions of a list hold one k-mer 0, 1 and 3 times."""
    labels = random.permuted(np.tile([0, 1, 3], (lists, 1)), axis=1)
    input_ids = random.integers(6, 4102, (lists, 3, 17))
    order = random.permuted(np.tile(np.arange(17), (lists, 3, 1)), axis=2)
    input_ids[order < labels[..., None]] = 77
    input_ids[..., 0] = 3
    return torch.from_numpy(input_ids), torch.from_numpy(labels).float()


@pytest.mark.parametrize("head", SCORERS)
def test_every_head_learns_to_count_a_motif(head: str) -> None:
    torch.manual_seed(0)
    model = NTRegionRanker(NTRegionRankerConfig(**{**SIZES, "num_hidden_layers": 1}, scorer_head=head))
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    correct = []
    for _ in range(60):
        input_ids, labels = motif_lists(random, 24)
        found = model(input_ids, labels=labels)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        correct.append((found.scores.argsort(1) == labels.argsort(1)).all(1).float().mean().item())
    assert np.mean(correct[-10:]) > 0.75 > 0.45 > np.mean(correct[:5])


def test_a_compiled_model_gives_the_same() -> None:
    model = make_model(cell_types=["B", "T"])
    arguments = {"labels": LABELS, "cell_type_ids": torch.tensor([0, 1])}
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        found, expected = compiled(make_batch(), **arguments), model(make_batch(), **arguments)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.loss, expected.loss)


@pytest.mark.gpu
@pytest.mark.parametrize("head", SCORERS)
def test_scores_on_a_gpu(head: str) -> None:
    model = make_model(scorer_head=head)
    input_ids = make_batch()
    input_ids[1, 2] = 1
    with torch.no_grad():
        expected = model(input_ids).scores
        found = model.cuda()(input_ids.cuda()).scores.cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
