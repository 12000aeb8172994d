"""Bio-DTA through `torch.compile`: one graph, forward and backward, whatever the batch; equal to the plain model."""

from typing import Any

import pytest
import torch

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM

# Inductor imports parts of torch that it calls outdated itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
VOCABULARY, FEATURES = 40, 12


def make_model(**changes: Any) -> BioDTAForMaskedLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BioDTAForMaskedLM(BioDTAConfig(**{**sizes, **no_dropout, "dna_feature_size": FEATURES, **changes})).train()
    if model.config.adapter_type != "none":
        model.set_gene_features(torch.randn(VOCABULARY, FEATURES))
    return model


def make_batch(lengths: list[int], *, packing: bool) -> dict[str, Any]:
    """Cells of random genes, every fourth masked, with what the collator finds out beforehand."""
    generator = torch.Generator().manual_seed(sum(lengths))
    longest = max(lengths)
    filled = torch.arange(longest) < torch.tensor(lengths)[:, None]
    genes = torch.randint(2, VOCABULARY, filled.shape, generator=generator) * filled
    masked = (torch.arange(longest) % 4 == 0) & filled
    batch: dict[str, Any] = {"input_ids": torch.where(masked, 1, genes), "labels": torch.where(masked, genes, -100)}
    if packing:
        batch = {name: values[filled].unsqueeze(0) for name, values in batch.items()}
        batch["position_ids"] = filled.cumsum(1)[filled].unsqueeze(0) - 1
        batch["cu_seq_lens_q"] = batch["cu_seq_lens_k"] = torch.tensor([0, *lengths]).cumsum(0).int()
        batch["max_length_q"] = batch["max_length_k"] = longest
    else:
        batch["attention_mask"] = filled.long()
    batch["distinct_token_ids"], batch["token_places"] = torch.unique(batch["input_ids"], return_inverse=True)
    batch["masked_positions"] = (batch["labels"].reshape(-1) != -100).nonzero().squeeze(1)
    return batch


def assert_one_graph_equals_the_model(
    *, packing: bool, backend: str, return_logits: bool = False, **changes: Any
) -> None:
    torch._dynamo.reset()
    model = make_model(**changes)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for lengths in ([7, 3, 9], [5, 12, 8, 4]):
        batch = {**make_batch(lengths, packing=packing), "return_logits": return_logits}
        outcomes = []
        for each in (model, compiled):
            model.zero_grad()
            loss = each(**batch).loss
            loss.backward()
            outcomes.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
        torch.testing.assert_close(outcomes[1], outcomes[0], atol=1e-5, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


def test_packed_cells_are_one_graph_for_all_batches() -> None:
    """The graph alone, which takes seconds; what is made of it takes minutes."""
    assert_one_graph_equals_the_model(packing=True, backend="eager")


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("adapter_type", ["linear", "none"])
@pytest.mark.parametrize("return_logits", [False, True], ids=["loss", "logits"])
def test_compiled_model_equals_the_plain_one(*, packing: bool, adapter_type: str, return_logits: bool) -> None:
    assert_one_graph_equals_the_model(
        packing=packing, backend="inductor", return_logits=return_logits, adapter_type=adapter_type
    )


@pytest.mark.slow
def test_dropout_differs_from_step_to_step_when_compiled() -> None:
    torch._dynamo.reset()
    model = torch.compile(make_model(attention_probs_dropout_prob=0.5), fullgraph=True, dynamic=True)
    batch = make_batch([7, 3, 9], packing=True)
    assert not torch.equal(model(**batch).loss, model(**batch).loss)
