"""Bio-DTA against transformers' own BERT, against plain formulas, and through save and load."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForMaskedLM

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM, BioDTAModel

VOCABULARY, FEATURES, HIDDEN = 40, 12, 32
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
}


def make_config(**changes: object) -> BioDTAConfig:
    return BioDTAConfig(**{**SIZES, "dna_feature_size": FEATURES, **changes})


def make_model(seed: int = 0, **changes: object) -> BioDTAForMaskedLM:
    torch.manual_seed(seed)
    model = BioDTAForMaskedLM(make_config(**changes)).eval()
    if model.config.adapter_type != "none":
        model.set_gene_features(3 + 2 * torch.randn(VOCABULARY, FEATURES))
        if model.config.variant_encoding == "difference":
            torch.nn.init.normal_(model.bert.gene_token_embeddings.difference_adapter.weight)
    return model


def make_batch(seed: int = 1) -> dict[str, torch.Tensor]:
    """Three cells of 10, 7 and 4 genes, the second and fifth of each masked."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.stack([torch.randperm(VOCABULARY - 2, generator=generator)[:10] + 2 for _ in range(3)])
    attention_mask = (torch.arange(10) < torch.tensor([[10], [7], [4]])).long()
    input_ids = input_ids * attention_mask
    labels = torch.full_like(input_ids, -100)
    for place in (1, 3):
        labels[:, place] = input_ids[:, place]
        input_ids[:, place] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


@pytest.mark.parity
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_adapter_free_model_equals_bert(attention: str) -> None:
    bert_config = BertConfig(
        **SIZES, num_attention_heads=4, hidden_act="relu", type_vocab_size=1, attn_implementation=attention
    )
    torch.manual_seed(0)
    bert = BertForMaskedLM(bert_config).eval()
    model = make_model(adapter_type="none", attn_implementation=attention)
    model.load_state_dict(bert.state_dict(), strict=True)
    batch = make_batch()
    expected, found = bert(**batch), model(**batch)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=0)
    flat = expected.logits.reshape(-1, VOCABULARY)[found.logits_indices]
    torch.testing.assert_close(found.logits, flat, atol=1e-5, rtol=0)
    del batch["labels"]
    torch.testing.assert_close(model(**batch).logits, bert(**batch).logits, atol=1e-5, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("adapter_type", ["linear", "mlp"])
def test_gather_after_adapter_equals_adapter_a_token(adapter_type: str) -> None:
    model = make_model(adapter_type=adapter_type)
    batch = make_batch()
    table = model.bert.gene_token_embeddings.table
    genes = table.features[2:].double()
    standardized = (table.features[batch["input_ids"]] - genes.mean(0)) / genes.std(0, correction=0)
    a_token = F.softplus(model.bert.gene_token_embeddings.adapter.projection(standardized.float()))
    special = model.bert.embeddings.word_embeddings.weight[batch["input_ids"].clamp(max=1)]
    inputs_embeds = torch.where(batch["input_ids"].unsqueeze(-1) < 2, special, a_token)
    expected = model(inputs_embeds=inputs_embeds, attention_mask=batch["attention_mask"]).logits
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradients_of_gather_equal_those_of_an_adapter_a_token() -> None:
    model = make_model()
    batch = make_batch()
    weight = model.bert.gene_token_embeddings.adapter.projection.weight
    (found,) = torch.autograd.grad(model(**batch).loss, weight)
    table = model.bert.gene_token_embeddings.table
    a_token = model.bert.gene_token_embeddings.adapter(table.standardized(table.features[batch["input_ids"]]))
    special = model.bert.embeddings.word_embeddings(batch["input_ids"].clamp(max=1))
    embeds = torch.where(batch["input_ids"].unsqueeze(-1) < 2, special, a_token)
    loss = model(inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    (expected,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("variant_encoding", ["replace", "difference"])
def test_a_variant_equal_to_the_reference_changes_nothing(variant_encoding: str) -> None:
    model = make_model(variant_encoding=variant_encoding)
    batch = make_batch()
    gene = batch["input_ids"][0, 0]
    variant_ids = torch.where(batch["input_ids"] == gene, 0, -1)
    features = model.bert.gene_token_embeddings.table.features[gene].unsqueeze(0)
    found = model(**batch, variant_features=features, variant_ids=variant_ids)
    torch.testing.assert_close(found.logits, model(**batch).logits, atol=1e-6, rtol=0)


def test_replace_equals_a_model_whose_reference_is_the_variant() -> None:
    model = make_model()
    batch = make_batch()
    gene = int(batch["input_ids"][0, 0])
    variant = torch.randn(1, FEATURES)
    variant_ids = torch.where(batch["input_ids"] == gene, 0, -1)
    found = model(**batch, variant_features=variant, variant_ids=variant_ids).logits
    model.bert.gene_token_embeddings.table.features[gene] = variant
    torch.testing.assert_close(found, model(**batch).logits, atol=1e-6, rtol=0)


def test_difference_adds_a_linear_map_of_the_standardised_difference() -> None:
    model = make_model(variant_encoding="difference")
    parts = model.bert.gene_token_embeddings
    variant, gene = torch.randn(1, FEATURES), 7
    embeddings = parts(
        torch.tensor([[gene, gene]]), model.bert.embeddings.word_embeddings, variant, torch.tensor([[-1, 0]])
    )[0]
    genes = parts.table.features[2:]
    difference = (variant[0] - parts.table.features[gene]) / genes.std(0, correction=0)
    expected = parts.difference_adapter.weight @ difference
    torch.testing.assert_close(embeddings[1] - embeddings[0], expected, atol=1e-5, rtol=1e-5)
    model.set_variant_scale(variant, torch.tensor([gene]))
    scaled = parts(
        torch.tensor([[gene, gene]]), model.bert.embeddings.word_embeddings, variant, torch.tensor([[-1, 0]])
    )[0]
    scale = difference.square().mean().sqrt()
    torch.testing.assert_close(scaled[1] - scaled[0], expected / scale, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant_encoding", ["replace", "difference"])
def test_a_masked_gene_does_not_tell_its_variant(variant_encoding: str) -> None:
    model = make_model(variant_encoding=variant_encoding)
    batch = make_batch()
    variant_ids = torch.where(batch["input_ids"] == 1, 0, -1)
    found = model(**batch, variant_features=torch.randn(1, FEATURES), variant_ids=variant_ids)
    assert torch.equal(found.logits, model(**batch).logits)


def test_one_variant_of_two_genes_and_two_variants_of_one() -> None:
    model = make_model(variant_encoding="difference")
    variants = torch.randn(2, FEATURES)
    input_ids = torch.tensor([[5, 6], [5, 6]])
    variant_ids = torch.tensor([[0, 0], [1, -1]])
    together = model(input_ids, variant_features=variants, variant_ids=variant_ids).logits
    for cell in range(2):
        alone = model(
            input_ids[cell : cell + 1], variant_features=variants, variant_ids=variant_ids[cell : cell + 1]
        ).logits
        torch.testing.assert_close(together[cell : cell + 1], alone, atol=1e-5, rtol=0)


def test_padding_has_no_influence() -> None:
    model = make_model()
    batch = make_batch()
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    alone = model(batch["input_ids"][2:, :4]).logits
    torch.testing.assert_close(logits[2:, :4], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"variant_encoding": "difference", "feature_scaling": "whiten"}, {"adapter_type": "none"}],
    ids=str,
)
def test_save_and_load(tmp_path: Path, changes: dict[str, str]) -> None:
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    loaded, report = BioDTAForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    batch = make_batch()
    assert torch.equal(loaded.eval()(**batch).logits, model(**batch).logits)
    encoder, report = BioDTAModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    hidden = model(**batch, output_hidden_states=True).hidden_states
    del batch["labels"]
    assert torch.equal(encoder.eval()(**batch).last_hidden_state, hidden[-1])


def test_features_stay_in_single_precision(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    model = BioDTAForMaskedLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.bert.gene_token_embeddings.table.features.dtype == torch.float32
    assert model(**make_batch()).loss.isfinite()


def test_gradient_checkpointing_keeps_the_gradients() -> None:
    model = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    batch = make_batch()
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    (expected,) = torch.autograd.grad(model(**batch).loss, weight)
    model.activation_checkpointing_enable()
    model(**batch).loss.backward()
    torch.testing.assert_close(weight.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"variant_encoding": "difference"}, {"adapter_type": "none"}], ids=str)
def test_every_parameter_takes_part(changes: dict[str, str]) -> None:
    """Distributed training refuses parameters without a gradient."""
    model = make_model(**changes).train()
    batch = make_batch()
    if changes.get("variant_encoding") == "difference":
        batch |= {"variant_features": torch.randn(1, FEATURES), "variant_ids": torch.zeros(3, 10, dtype=torch.long)}
    model(**batch).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_loss_over_an_accumulated_step_and_without_masked_tokens() -> None:
    model = make_model()
    batch = make_batch()
    masked = int((batch["labels"] != -100).sum())
    half = model(**batch, num_items_in_batch=2 * masked).loss
    torch.testing.assert_close(2 * half, model(**batch).loss)
    batch["labels"][:] = -100
    assert model(**batch).loss.item() == 0


def precomputed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    distinct, places = torch.unique(batch["input_ids"], return_inverse=True)
    masked = (batch["labels"].reshape(-1) != -100).nonzero().squeeze(1)
    return {**batch, "masked_positions": masked, "distinct_token_ids": distinct, "token_places": places}


@pytest.mark.parametrize("changes", [{}, {"variant_encoding": "difference"}, {"adapter_type": "none"}], ids=str)
def test_what_the_collator_finds_out_beforehand_changes_nothing(changes: dict[str, str]) -> None:
    model = make_model(**changes)
    batch = make_batch()
    if changes.get("variant_encoding") == "difference":
        batch |= {"variant_features": torch.randn(1, FEATURES), "variant_ids": torch.zeros(3, 10, dtype=torch.long)}
    found, expected = model(**precomputed(batch)), model(**batch)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.logits_indices, expected.logits_indices)
    assert torch.equal(found.loss, expected.loss)


@pytest.mark.parity
@pytest.mark.parametrize("changes", [{}, {"adapter_type": "none"}], ids=str)
@pytest.mark.parametrize("num_items_in_batch", [None, 17])
def test_the_loss_without_logits_equals_the_loss_with_them(
    changes: dict[str, str], num_items_in_batch: int | None
) -> None:
    model = make_model(**changes)
    batch = {**make_batch(), "num_items_in_batch": num_items_in_batch}
    expected, found = model(**batch), model(**batch, return_logits=False)
    assert found.logits is None
    assert torch.equal(found.logits_indices, expected.logits_indices)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=0)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.loss, parameters),
        torch.autograd.grad(expected.loss, parameters),
        atol=1e-6,
        rtol=1e-4,
    )
    batch["labels"] = torch.full_like(batch["labels"], -100)
    nothing = model(**batch, return_logits=False).loss
    assert nothing.item() == 0
    nothing.backward()
    assert all(parameter.grad is not None for parameter in parameters)
    del batch["labels"]
    assert model(**batch, return_logits=False).logits.shape == (3, 10, VOCABULARY)


def test_hidden_states_and_attentions() -> None:
    model = make_model(attn_implementation="eager")
    outputs = model(**make_batch(), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(3, 10, HIDDEN)] * 3
    assert [tuple(attention.shape) for attention in outputs.attentions] == [(3, 4, 10, 10)] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_bfloat16_on_a_gpu_agrees_with_the_cpu(attention: str) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    model = make_model()
    batch = make_batch()
    expected = model(**batch).loss
    model.set_attn_implementation(attention)
    model = model.to("cuda", torch.bfloat16)
    found = model(**{key: value.cuda() for key, value in batch.items()}).loss.float().cpu()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model(torch.full((1, 25), 3)), "25 tokens, and the model takes at most 24"),
        (lambda model: model(), "either input_ids or inputs_embeds"),
        (lambda model: model.set_gene_features(torch.zeros(40, 11)), r"\(40, 11\).*\(40, 12\)"),
        (lambda model: model.set_gene_features(torch.full((40, 12), torch.nan)), "38 genes.*not finite"),
        (
            lambda model: model(torch.ones(1, 2).long(), variant_ids=torch.zeros(1, 2).long()),
            "without variant_features",
        ),
        (
            lambda model: model(
                torch.ones(1, 2).long(), variant_features=torch.zeros(1, 9), variant_ids=torch.zeros(1, 2).long()
            ),
            r"\(1, 9\), expected \(n_variants, 12\)",
        ),
        (
            lambda model: model(
                torch.ones(1, 2).long(), variant_features=torch.zeros(1, 12), variant_ids=torch.ones(1, 2).long()
            ),
            "variant_ids reach 1, and variant_features has 1 rows",
        ),
        (
            lambda model: model(
                torch.ones(1, 2).long(), variant_features=torch.zeros(1, 12), variant_ids=torch.ones(1, 3).long()
            ),
            r"variant_ids have shape \(1, 3\)",
        ),
        (
            lambda model: model(torch.ones(1, 2).long(), distinct_token_ids=torch.ones(1).long()),
            "distinct_token_ids and token_places belong together",
        ),
        (
            lambda model: model(
                torch.ones(1, 2).long(), distinct_token_ids=torch.ones(1).long(), token_places=torch.zeros(2).long()
            ),
            r"token_places have shape \(2,\) and input_ids \(1, 2\)",
        ),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make_model())


def test_a_model_without_features_says_so() -> None:
    model = BioDTAForMaskedLM(make_config())
    with pytest.raises(ValueError, match="no gene features yet"):
        model(**make_batch())
    adapter_free = make_model(adapter_type="none")
    with pytest.raises(ValueError, match="takes no gene features"):
        adapter_free.set_gene_features(torch.zeros(VOCABULARY, FEATURES))
    with pytest.raises(ValueError, match="cannot take variants"):
        adapter_free(torch.ones(1, 2).long(), variant_ids=torch.zeros(1, 2).long())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gene_ids": ["<pad>", "<mask>", "G1"]}, "gene_ids has 3 tokens and vocab_size is 40"),
        ({"num_special_tokens": 0}, "num_special_tokens is 0"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings=True needs"),
        ({"adapter_type": "quadratic"}, "adapter_type"),
    ],
)
def test_bad_configurations(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_config(**changes)


def test_the_papers_sizes_are_the_defaults() -> None:
    config = BioDTAConfig()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (25_426, 256, 6)
    assert (config.num_attention_heads, config.intermediate_size, config.max_position_embeddings) == (4, 512, 2048)
    assert (config.dna_feature_size, config.adapter_type, config.variant_encoding) == (3072, "linear", "replace")
