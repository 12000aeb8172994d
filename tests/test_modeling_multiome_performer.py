"""The multiome Performer: paths and their mean, missing values, orders of genes, losses, redraws, saving, options."""

import logging
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.modeling_multiome_performer import (
    MultiomePerformerForCellTypeClassification,
    MultiomePerformerForPreTraining,
    MultiomePerformerModel,
    MultiomePerformerPreTrainedModel,
)

SIZES = {
    "num_genes": 30,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "head_dim": 8,
    "intermediate_size": 20,
}
ATTENTIONS = ["performer", "sdpa"]
POOLINGS = ["mean", "nonzero_mean", "cls"]


def make_model(
    kind: type[MultiomePerformerPreTrainedModel] = MultiomePerformerModel, **fields: object
) -> MultiomePerformerPreTrainedModel:
    torch.manual_seed(0)
    model = kind(MultiomePerformerConfig(**{**SIZES, **fields})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # random weights alone hardly mix genes
            parameter.mul_(10.0 if name.endswith("weight") and "norm" not in name else 1.0)
    return model


def make_values(seed: int = 0, genes: int = 30) -> torch.Tensor:
    return torch.randint(0, 6, (4, genes), generator=torch.Generator().manual_seed(seed))


def make_mask(seed: int = 2) -> torch.Tensor:
    return torch.rand(4, 30, generator=torch.Generator().manual_seed(seed)) > 0.3


def make_labels(values: torch.Tensor) -> torch.Tensor:
    labels = values.masked_fill(values % 2 == 0, -100)
    labels[1] = -100  # a cell without masked values
    return labels


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_paired_cells_are_the_exact_mean_of_both_paths(device: str, attention: str, pooling: str) -> None:
    model = make_model(attention_type=attention, pooling=pooling).to(device)
    rna, atac = make_values(0).to(device), make_values(1).to(device)
    with torch.no_grad():
        one, other, both = model(rna_values=rna), model(atac_values=atac), model(rna_values=rna, atac_values=atac)
    assert one.atac_cell_embedding is None and other.rna_cell_embedding is None
    assert torch.equal(both.rna_cell_embedding, one.cell_embedding)
    assert torch.equal(both.atac_cell_embedding, other.cell_embedding)
    assert torch.equal(both.cell_embedding, (one.cell_embedding + other.cell_embedding) / 2)
    assert torch.equal(both.last_hidden_state, (one.last_hidden_state + other.last_hidden_state) / 2)
    assert both.last_hidden_state.shape == (4, 30, 12) and both.cell_embedding.shape == (4, 12)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_stands_at_missing_values_is_not_read(attention: str, pooling: str) -> None:
    model = make_model(attention_type=attention, pooling=pooling, joint_embedding="cross_attention")
    values, mask = make_values(), make_mask()
    changed = torch.where(mask, values, 99)
    with torch.no_grad():
        expected = model(rna_values=values, atac_values=values, rna_mask=mask)
        found = model(rna_values=changed, atac_values=values, rna_mask=mask)
        unmasked = model(rna_values=values, atac_values=values)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(found.cell_embedding, expected.cell_embedding)
    assert not torch.allclose(unmasked.cell_embedding, expected.cell_embedding)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_missing_genes_might_as_well_not_be_given(attention: str, pooling: str) -> None:
    model = make_model(attention_type=attention, pooling=pooling)
    values, mask = make_values(), torch.zeros(4, 30, dtype=torch.bool)
    kept = torch.tensor([4, 0, 17, 25, 9])
    mask[:, kept] = True
    with torch.no_grad():
        masked = model(rna_values=values, rna_mask=mask)
        subset = model(rna_values=values[:, kept], gene_positions=kept)
    torch.testing.assert_close(subset.cell_embedding, masked.cell_embedding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(subset.last_hidden_state, masked.last_hidden_state[:, kept], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_permuted_genes_have_permuted_states(attention: str) -> None:
    model = make_model(attention_type=attention)
    values = make_values()
    orders = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(cell)) for cell in range(4)])
    with torch.no_grad():
        expected = model(atac_values=values)
        found = model(atac_values=values.gather(1, orders), gene_positions=orders)
    permuted = expected.last_hidden_state.gather(1, orders.unsqueeze(2).expand(-1, -1, 12))
    torch.testing.assert_close(found.last_hidden_state, permuted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.cell_embedding, expected.cell_embedding, atol=1e-5, rtol=1e-4)


def test_poolings_by_hand() -> None:
    values, mask = make_values(), make_mask()
    values[0] = 0
    for pooling, counted in (("mean", mask), ("nonzero_mean", mask & (values != 0))):
        with torch.no_grad():
            found = make_model(pooling=pooling)(rna_values=values, rna_mask=mask)
        for cell in range(4):
            seen = counted[cell] if counted[cell].any() else mask[cell]
            expected = found.last_hidden_state[cell][seen].mean(0)
            torch.testing.assert_close(found.cell_embedding[cell], expected, atol=1e-6, rtol=1e-5)


def test_hidden_states_on_request() -> None:
    model = make_model()
    values = make_values()
    assert model(rna_values=values).hidden_states is None
    found = model(rna_values=values, atac_values=values, output_hidden_states=True)
    assert [state.shape for state in found.hidden_states] == [(4, 30, 12)] * 3
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_logits_of_labelled_values_are_those_of_all_and_the_loss_is_the_mean_over_cells(attention: str) -> None:
    model = make_model(MultiomePerformerForPreTraining, attention_type=attention)
    rna, atac = make_values(0), make_values(1)
    labels = {"rna": make_labels(rna), "atac": make_labels(atac)}
    with torch.no_grad():
        full = model(rna_values=rna, atac_values=atac)
        found = model(rna_values=rna, atac_values=atac, rna_labels=labels["rna"], atac_labels=labels["atac"])
    losses = []
    for name, of_modality in labels.items():
        logits, places = full[f"{name}_logits"], found[f"{name}_logits_indices"]
        assert logits.shape == (4, 30, 6)
        torch.testing.assert_close(found[f"{name}_logits"], logits.flatten(0, 1)[places])
        assert torch.equal(places, (of_modality.flatten() != -100).nonzero().flatten())
        cells = [F.cross_entropy(logits[cell], of_modality[cell]) for cell in (0, 2, 3)]
        torch.testing.assert_close(found[f"{name}_loss"], torch.stack(cells).mean())
        losses.append(found[f"{name}_loss"])
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())


def test_a_modality_is_predicted_from_the_other() -> None:
    model = make_model(MultiomePerformerForPreTraining)
    rna, atac = make_values(0), make_values(1)
    found = model(rna_values=rna, atac_labels=make_labels(atac))
    assert found.rna_logits is None and found.rna_loss is None and torch.equal(found.loss, found.atac_loss)
    found.loss.backward()
    assert (
        model.atac_head.weight.grad.any() and model.performer.paths["rna"].layers[0].attention.query.weight.grad.any()
    )
    nothing = model(rna_values=rna, rna_labels=torch.full_like(rna, -100))
    assert nothing.loss.item() == 0 and len(nothing.rna_logits) == 0


@pytest.mark.parametrize("head", ["convolutional", "linear"])
def test_cell_types(head: str) -> None:
    model = make_model(
        MultiomePerformerForCellTypeClassification,
        classification_head=head,
        num_labels=3,
        class_weights=[1.0, 2.0, 0.5],
        joint_embedding="cross_attention",
    )
    rna, atac, labels = make_values(0), make_values(1), torch.tensor([0, 2, 1, -100])
    found = model(rna_values=rna, atac_values=atac, labels=labels)
    expected = F.cross_entropy(found.logits, labels, weight=torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    subset = {"rna_values": rna[:, :5], "gene_positions": torch.arange(5)}
    if head == "linear":
        assert model(**subset).logits.shape == (4, 3)
    else:
        with pytest.raises(ValueError, match="5 genes are given, and the convolutional head takes all 30"):
            model(**subset)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # newer transformers' other name for it
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_checkpointed_gradients_are_the_same(attention: str) -> None:
    batch = {"rna_values": make_values(0), "atac_values": make_values(1), "rna_labels": make_labels(make_values(0))}
    gradients = []
    for is_checkpointed in (False, True):
        fields = {"joint_embedding": "cross_attention", "pooling": "cls", "attention_type": attention}
        model = make_model(MultiomePerformerForPreTraining, **fields).train()
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.performer.paths["rna"].layers[0].gradient_checkpointing
        model(**batch, rna_mask=make_mask()).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def projections(model: torch.nn.Module) -> torch.Tensor:
    return torch.stack([tensor for name, tensor in model.named_buffers() if name.endswith("projection")]).clone()


def test_features_are_redrawn_by_batches_of_training_and_nothing_else() -> None:
    model, values = make_model(feature_redraw_interval=3, feature_seed=5), make_values()
    drawn = [projections(model)]
    assert len(drawn[0].unique(dim=0)) == 4  # two paths of two layers
    for _ in range(5):
        model(rna_values=values)
    model.train()
    with torch.no_grad():
        model(rna_values=values)
    assert int(model.trained_batches) == 0
    for _ in range(7):
        model(rna_values=values)
        drawn.append(projections(model))
    changes = [not torch.equal(*pair) for pair in pairwise(drawn)]
    assert changes == [False, False, False, True, False, False, True] and int(model.trained_batches) == 7
    never = make_model(feature_redraw_interval=None, feature_seed=5).train()
    never(rna_values=values)
    assert torch.equal(projections(never), drawn[0])


def test_a_resumed_run_draws_the_same_features(tmp_path: Path) -> None:
    values = make_values()
    model = make_model(feature_redraw_interval=2).train()
    for _ in range(4):
        model(rna_values=values)
    model.save_pretrained(tmp_path)
    resumed = MultiomePerformerModel.from_pretrained(tmp_path).train()
    other = make_model(feature_redraw_interval=2).train()
    other(rna_values=values)
    other.load_state_dict(model.state_dict())
    for each in (model, resumed, other):
        each(rna_values=values)
    assert torch.equal(projections(resumed), projections(model))
    assert torch.equal(projections(other), projections(model))
    assert not torch.equal(projections(model), projections(make_model()))


def test_a_checkpoint_opens_with_either_attention_and_either_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(MultiomePerformerForPreTraining, pooling="cls")
    model.save_pretrained(tmp_path / "first")
    logging.getLogger("transformers").addHandler(caplog.handler)
    exact = MultiomePerformerForPreTraining.from_pretrained(tmp_path / "first", attention_type="sdpa").eval()
    exact.save_pretrained(tmp_path / "second")
    back = MultiomePerformerForPreTraining.from_pretrained(tmp_path / "second", attention_type="performer").eval()
    encoder = MultiomePerformerModel.from_pretrained(tmp_path / "first").eval()
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    values = make_values()
    with torch.no_grad():
        expected = model(rna_values=values)
        assert torch.equal(back(rna_values=values).rna_logits, expected.rna_logits)
        assert torch.equal(encoder(rna_values=values).cell_embedding, expected.cell_embedding)
        assert not torch.allclose(exact(rna_values=values).rna_logits, expected.rna_logits, atol=1e-6)
    classifier, report = MultiomePerformerForCellTypeClassification.from_pretrained(
        tmp_path / "first", num_labels=3, class_weights=[1.0, 2.0, 3.0], output_loading_info=True
    )
    assert not report["unexpected_keys"] and {key.partition(".")[0] for key in report["missing_keys"]} == {"classifier"}
    assert classifier.class_weights.tolist() == [1.0, 2.0, 3.0]


def test_gene_tokens_from_features(tmp_path: Path) -> None:
    model = make_model(gene_feature_size=5)
    with pytest.raises(ValueError, match="no gene features yet"):
        model(rna_values=make_values())
    model.set_gene_features(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)))
    model.save_pretrained(tmp_path)
    loaded = MultiomePerformerModel.from_pretrained(tmp_path).eval()
    values = make_values()
    torch.testing.assert_close(loaded(rna_values=values).cell_embedding, model(rna_values=values).cell_embedding)
    with pytest.raises(ValueError, match="use set_gene_features"):
        model.set_gene_embeddings(torch.zeros(30, 12), "rna")
    with pytest.raises(ValueError, match=r"gene_feature_size=None and learns its gene tokens.*gene_feature_size=5"):
        make_model().set_gene_features(torch.zeros(30, 5))


def test_given_gene_embeddings() -> None:
    model = make_model(MultiomePerformerForPreTraining, modalities=["rna"])
    table = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    model.set_gene_embeddings(table, "rna")
    assert torch.equal(model.performer.paths["rna"].embeddings.gene_embeddings.weight, table)
    with pytest.raises(
        ValueError, match=r"shape \(30, 5\), and the model expects \(num_genes, hidden_size\) = \(30, 12\)"
    ):
        model.set_gene_embeddings(table[:, :5], "rna")
    with pytest.raises(ValueError, match="1 genes have embeddings that are not finite"):
        model.set_gene_embeddings(table.index_fill(0, torch.tensor([3]), torch.nan), "rna")
    with pytest.raises(ValueError, match=r'modality "atac" is given, and the model has \[\'rna\'\] only'):
        model.set_gene_embeddings(table, "atac")


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft asks by the older name
def test_lora_trains_what_it_adds() -> None:
    peft = pytest.importorskip("peft")
    model = make_model(MultiomePerformerForPreTraining)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query", "value"], r=2))
    values = make_values()
    adapted(rna_values=values, rna_labels=make_labels(values)).loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert len(trained) == 8 and all("lora_" in name for name in trained)  # one path: two matrices, A and B, two layers


def test_bfloat16_is_near(device: str) -> None:
    model = make_model(MultiomePerformerForPreTraining).to(device)
    values = make_values().to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = model(rna_values=values, rna_labels=make_labels(values))
    expected = model(rna_values=values, rna_labels=make_labels(values))
    assert found.rna_logits.dtype == torch.bfloat16 and found.loss.dtype == torch.float32
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=0.03)
    found.loss.backward()


def test_the_compiled_encoder_is_one_graph() -> None:
    model = make_model()
    values, mask = make_values(), make_mask()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = model(rna_values=values, atac_values=values, rna_mask=mask).cell_embedding
    found = compiled(rna_values=values, atac_values=values, rna_mask=mask).cell_embedding
    torch.testing.assert_close(found, expected)
