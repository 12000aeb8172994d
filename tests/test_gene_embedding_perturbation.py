"""The perturbation pipeline on a small Bio-DTA: tables against one plain pass a cell, every edit, and bad input."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from scipy import sparse
from transformers import BertConfig, BertForMaskedLM

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.gene_embedding_perturbation import GeneEmbeddingPerturbationPipeline
from omics_transformers.pipelines.perturbation_edits import RandomMutations, ReplaceHaplotypes, SetRank

N_GENES, N_FEATURES, N_CELLS = 30, 24, 23
GENES = [f"ENSG{number:011d}" for number in range(N_GENES)]
SPECIAL = ["<pad>", "<mask>"]
METADATA = {"layer": "transformer", "pool": "all", "window_bp": "512"}


def make_tokenizer(special: list[str] = SPECIAL) -> GeneRankTokenizer:
    tokens = {token: number for number, token in enumerate([*special, *GENES])}
    medians = {gene: 1 + number % 5 / 3 for number, gene in enumerate(GENES)}
    return GeneRankTokenizer.from_dictionaries(tokens, medians, {gene: f"SYM{n}" for n, gene in enumerate(GENES)})


def make_model(special: list[str] = SPECIAL, **changes: Any) -> BioDTAForMaskedLM:
    torch.manual_seed(0)
    config = BioDTAConfig(
        vocab_size=len(special) + N_GENES,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=40,
        dna_feature_size=N_FEATURES,
        num_special_tokens=len(special),
        gene_ids=[*special, *GENES],
        gene_features_metadata=METADATA,
        initializer_range=0.3,  # so that genes speak to each other without training
        **changes,
    )
    model = BioDTAForMaskedLM(config)
    if config.adapter_type != "none":
        model.set_gene_features(torch.randn(config.vocab_size, N_FEATURES))
    if config.variant_encoding == "difference" and config.adapter_type != "none":
        torch.nn.init.normal_(model.bert.gene_token_embeddings.difference_adapter.weight)
    return model


def make_pipeline(special: list[str] = SPECIAL, **changes: Any) -> GeneEmbeddingPerturbationPipeline:
    return GeneEmbeddingPerturbationPipeline(make_model(special, **changes), make_tokenizer(special), device="cpu")


def make_cells(order: np.ndarray | None = None) -> anndata.AnnData:
    generator = np.random.default_rng(0)
    counts = generator.poisson(generator.gamma(0.6, 1.2, N_GENES), (N_CELLS, N_GENES)).astype(np.float32)
    counts[2] = 0
    counts[:, 4] = generator.poisson(1.0, N_CELLS)
    counts[:, 29] = 0  # a gene that no cell expresses
    obs = pd.DataFrame({"donor": [f"d{n % 2}" for n in range(N_CELLS)]}, index=[f"c{n}" for n in range(N_CELLS)])
    cells = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES))
    return cells if order is None else cells[order].copy()


def plain_cosines(
    pipe: GeneEmbeddingPerturbationPipeline, gene: int, kind: str, hidden_index: int, features: np.ndarray | None = None
) -> dict[int, list[float]]:
    """Token -> cosine in each cell: a cell at a time, no padding, positions matched by looking each gene up."""
    model, offset = pipe.model, pipe.model.config.num_special_tokens
    found: dict[int, list[float]] = {}
    for ids in pipe.tokenizer.encode_counts(make_cells().X, GENES)["input_ids"]:
        before, token = ids.tolist(), gene + offset
        if token not in before:
            continue
        others = [other for other in before if other != token]
        front = 1 if before[0] < offset else 0
        after = {
            "delete": others,
            "overexpress": [*others[:front], token, *others[front:]],
            "mask": [1 if other == token else other for other in before],
        }.get(kind, before)
        extra: dict[str, torch.Tensor] = {}
        if features is not None:
            variant_ids = torch.tensor([[0 if other == token else -1 for other in after]])
            extra = {"variant_ids": variant_ids, "variant_features": torch.from_numpy(features[None])}
        with torch.inference_mode():
            first = model(torch.tensor([before]), output_hidden_states=True).hidden_states[hidden_index][0].double()
            second = model(torch.tensor([after]), output_hidden_states=True, **extra).hidden_states[hidden_index][0]
        for place, other in enumerate(before):
            if other >= offset and other in after:
                cosine = torch.cosine_similarity(first[place], second[after.index(other)].double(), dim=0)
                found.setdefault(other, []).append(float(cosine))
    return found


@pytest.mark.parity
@pytest.mark.parametrize("special", [SPECIAL, ["<pad>", "<mask>", "<cls>", "<eos>"]], ids=["first", "second"])
@pytest.mark.parametrize("kind", ["delete", "mask", "overexpress", "features"])
@pytest.mark.parametrize(("layer", "hidden_index"), [(-1, 2), (0, 3)])
def test_equals_a_plain_pass_a_cell(kind: str, special: list[str], layer: int, hidden_index: int) -> None:
    pipe = make_pipeline(special)
    features = np.random.default_rng(1).normal(size=N_FEATURES).astype(np.float32) if kind == "features" else None
    result = pipe(make_cells(), gene="SYM4", edit=kind if features is None else features, layer=layer, batch_size=4)
    expected = plain_cosines(pipe, 4, kind, hidden_index, features)
    edited = expected.pop(4 + len(special), None)
    assert set(result.genes["gene_id"]) == {GENES[token - len(special)] for token in expected}
    for row in result.genes.itertuples():
        cosines = expected[GENES.index(row.gene_id) + len(special)]
        assert row.symbol == f"SYM{GENES.index(row.gene_id)}"
        assert row.n_cells == len(cosines)
        assert row.cosine_mean == pytest.approx(np.mean(cosines), abs=1e-6)
        assert row.shift == pytest.approx(1 - np.mean(cosines), abs=1e-6)
        if len(cosines) > 1:
            assert row.cosine_sd == pytest.approx(np.std(cosines, ddof=1), abs=1e-6)
        else:
            assert np.isnan(row.cosine_sd)
    assert result.genes["shift"].is_monotonic_decreasing
    assert result.genes["shift"].max() > 1e-4  # the test would say nothing of a model in which nothing moves
    assert result.genes["rank"].tolist() == list(range(1, len(expected) + 1))
    if edited is None:
        assert result.summary["edited_gene"] is None
    else:
        assert result.summary["edited_gene"]["shift"] == pytest.approx(1 - np.mean(edited), abs=1e-6)


@pytest.mark.parity
def test_deletion_in_place_equals_removal_with_positions_given() -> None:
    """The same model without the token, each other token with the position that it had."""
    pipe = make_pipeline()
    found = pipe(make_cells(), gene="SYM4", edit="delete-in-place", batch_size=5).genes.set_index("gene_id")
    expected: dict[int, list[float]] = {}
    for ids in pipe.tokenizer.encode_counts(make_cells().X, GENES)["input_ids"]:
        before = torch.tensor([ids.tolist()])
        kept = before[0] != 6
        if kept.all():
            continue
        positions = torch.arange(len(ids))[None, kept]
        with torch.inference_mode():
            first = pipe.model(before, output_hidden_states=True).hidden_states[2][0][kept]
            after = before[:, kept]
            second = pipe.model(after, position_ids=positions, output_hidden_states=True).hidden_states[2][0]
        for token, cosine in zip(after[0].tolist(), torch.cosine_similarity(first, second).tolist(), strict=True):
            expected.setdefault(token, []).append(cosine)
    assert found.index.tolist() and set(found.index) == {GENES[token - 2] for token in expected}
    for token, cosines in expected.items():
        assert found.loc[GENES[token - 2], "shift"] == pytest.approx(1 - np.mean(cosines), abs=1e-6)
    moved = pipe(make_cells(), gene="SYM4").genes.set_index("gene_id").loc[found.index]
    assert not np.allclose(moved["shift"], found["shift"], rtol=0.1)


@pytest.mark.parity
@pytest.mark.parametrize("require_all", [True, False])
def test_several_edits_at_once_equal_a_plain_pass_a_cell(require_all: bool) -> None:
    pipe = make_pipeline()
    pairs = [("SYM4", "delete"), (GENES[6], SetRank(2)), ("SYM2", "mask")]
    result = pipe(make_cells(), gene=pairs, require_all=require_all, batch_size=4)
    expected: dict[int, list[float]] = {}
    shifts = []
    for ids in pipe.tokenizer.encode_counts(make_cells().X, GENES)["input_ids"]:
        before = ids.tolist()
        present = [token in before for token in (6, 8, 4)]
        if not (all(present) if require_all else any(present)):
            continue
        after = [token for token in before if token != 6]
        if 8 in after:
            after.remove(8)
            after.insert(2, 8)
        after = [1 if token == 4 else token for token in after]
        with torch.inference_mode():
            first, second = (
                pipe.model(torch.tensor([cell]), output_hidden_states=True).hidden_states[2][0].double()
                for cell in (before, after)
            )
        for place, token in enumerate(before):
            if token in after:
                cosine = torch.cosine_similarity(first[place], second[after.index(token)], dim=0)
                expected.setdefault(token, []).append(float(cosine))
        means = [
            torch.stack([states[place] for place, token in enumerate(cell) if token not in (1, 6, 8, 4)]).mean(0)
            for states, cell in ((first, before), (second, after))
        ]
        shifts.append(1 - float(torch.cosine_similarity(*means, dim=0)))
    moved = expected.pop(8)
    assert len(shifts) > 3 and result.summary["n_cells_with_gene"] == len(shifts)
    np.testing.assert_allclose(result.cells["shift_without_edited"], shifts, atol=1e-6)
    for row in result.genes.itertuples():
        cosines = expected.pop(GENES.index(row.gene_id) + 2)
        assert row.n_cells == len(cosines) and row.shift == pytest.approx(1 - np.mean(cosines), abs=1e-6)
    assert not expected
    (edited,) = result.summary["edited_genes"]
    assert edited["gene_id"] == GENES[6] and edited["shift"] == pytest.approx(1 - np.mean(moved), abs=1e-6)
    assert result.summary["gene_id"] == "+".join(GENES[number] for number in (4, 6, 2))
    assert result.summary["symbol"] == "SYM4+SYM6+SYM2" and result.summary["edit"]["kind"] == "several"
    counts = make_cells().X.toarray() > 0
    assert result.summary["n_cells_with_each_gene"] == counts[:, [4, 6, 2]].sum(axis=0).tolist()


def test_one_edit_for_several_genes() -> None:
    pipe = make_pipeline()
    together = pipe(make_cells(), gene=["SYM4", "SYM9"], edit="mask")
    pairs = pipe(make_cells(), gene=[("SYM4", "mask"), ("SYM9", "mask")])
    pd.testing.assert_frame_equal(together.genes, pairs.genes)
    assert together.summary["edit"]["kind"] == "mask" and together.summary["edited_gene"] is None
    shams = pipe(make_cells(), gene=["SYM4", "SYM9"], edit="mask", sham_genes=3)
    assert [name.count("+") for name in shams.summary["sham_genes"]] == [1, 1, 1]
    assert shams.genes["shift_normalised"].notna().any()


def test_cells_too_short_for_a_rank_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    pipe = make_pipeline()
    counts = make_cells().X.toarray() > 0
    n_genes = counts.sum(axis=1)[counts[:, 4]]
    rank = int(np.median(n_genes))
    with caplog.at_level(logging.WARNING):
        summary = pipe(make_cells(), gene="SYM4", edit=SetRank(rank)).summary
    assert summary["n_cells_with_gene"] == (n_genes > rank).sum()
    assert summary["n_cells_without_the_rank"] == (n_genes <= rank).sum() > 0
    assert f"have no rank {rank} and are left out" in caplog.text


def test_sham_edits_of_the_user_are_edits_of_those_genes() -> None:
    pipe = make_pipeline()
    given = [("SYM7", "delete"), ("SYM9", "overexpress")]
    result = pipe(make_cells(), gene="SYM4", edit="mask", sham_edits=given)
    assert result.summary["sham_genes"] == [GENES[7], GENES[9]]
    with_gene = make_cells()[make_cells().X.toarray()[:, 4] > 0].copy()
    alone = [pipe(with_gene, gene=gene, edit=edit).genes.set_index("gene_id")["shift"] for gene, edit in given]
    for row in result.genes.itertuples():
        logs = [np.log(one[row.gene_id]) for one in alone if row.gene_id in one.index]
        assert row.n_sham == len(logs)
        if logs:
            assert row.shift_sham == pytest.approx(np.exp(np.mean(logs)), rel=1e-3)


def test_every_shift_stands_beside_its_noise_floor() -> None:
    pipe = make_pipeline()
    result = pipe(make_cells(), gene="SYM4")
    assert result.genes["noise_floor"].between(0, 1e-10).all() and result.genes["above_noise"].all()
    assert result.summary["noise"]["n_genes_above"] == len(result.genes)
    assert (result.cells["noise_floor"] < 1e-10).all() and result.cells["noise_floor"].nunique() == 1
    unmoved = pipe.model.bert.gene_token_embeddings.table.features[6].numpy()
    same = pipe(make_cells(), gene="SYM4", edit=unmoved)
    assert same.genes["above_noise"].mean() < 0.5
    rough = GeneEmbeddingPerturbationPipeline(make_model().to(torch.bfloat16), make_tokenizer(), device="cpu")
    assert rough(make_cells(), gene="SYM4").summary["noise"]["largest"] >= 0
    without = pipe(make_cells(), gene="SYM4", noise_cells=0)
    assert "noise_floor" not in without.genes and without.summary["noise"] == {"n_cells": 0, "n_genes_above": None}
    pd.testing.assert_frame_equal(without.genes, result.genes.drop(columns=["noise_floor", "above_noise"]))


@pytest.mark.parity
def test_moves_towards_a_goal_by_plain_means() -> None:
    pipe = make_pipeline()
    result = pipe(
        make_cells(), gene="SYM4", goal={"column": "donor", "start": "d0", "goal": ["d1"]}, sham_genes=3, batch_size=3
    )
    donors = make_cells().obs["donor"].to_numpy()
    means, after = np.full((N_CELLS, 16), np.nan), np.full((2, N_CELLS, 16), np.nan)
    before = np.full((2, N_CELLS, 16), np.nan)
    for cell, ids in enumerate(pipe.tokenizer.encode_counts(make_cells().X, GENES)["input_ids"]):
        if len(ids) == 0:
            continue
        with torch.inference_mode():
            states = pipe.model(torch.tensor([ids.tolist()]), output_hidden_states=True).hidden_states[2][0].numpy()
            means[cell] = before[0, cell] = states.mean(axis=0)
            if 6 in ids:
                others = [token for token in ids.tolist() if token != 6]
                edited = pipe.model(torch.tensor([others]), output_hidden_states=True).hidden_states[2][0].numpy()
                before[1, cell], after[:, cell] = states[ids != 6].mean(axis=0), edited.mean(axis=0)
    way = np.nanmean(means[donors == "d1"], axis=0) - np.nanmean(means[donors == "d0"], axis=0)
    expected = ((after - before) @ way / (way @ way))[:, result.cells["cell"]]
    np.testing.assert_allclose(result.cells["toward_goal"], expected[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(result.cells["toward_goal_without_edited"], expected[1], rtol=1e-3, atol=1e-5)
    assert result.cells["state"].tolist() == [{"d0": "start", "d1": "goal"}[donors[n]] for n in result.cells["cell"]]
    assert result.cells["name"].tolist() == [f"c{number}" for number in result.cells["cell"]]
    found = result.summary["goal"]
    start = expected[0][(result.cells["state"] == "start").to_numpy()]
    assert found["toward_goal_mean"] == pytest.approx(start.mean(), rel=1e-3)
    assert found["distance"] == pytest.approx(np.linalg.norm(way), rel=1e-4)
    assert 0.25 <= found["p_value_sham"] <= 1
    masks = {"start": donors == "d0", "goal": donors == "d1"}
    again = pipe(make_cells(), gene="SYM4", goal=masks, sham_genes=3, batch_size=3)
    pd.testing.assert_frame_equal(again.cells, result.cells)


def test_two_haplotypes_are_the_mean_of_their_changes() -> None:
    changes = np.random.default_rng(1).normal(size=(2, N_FEATURES)).astype(np.float32)
    pipe = make_pipeline()
    reference = pipe.model.bert.gene_token_embeddings.table.features[6].numpy()
    rows = {"A" * 512: reference, "C" * 512: reference + changes[0], "G" * 512: reference + changes[1]}
    dna_model = SimpleNamespace(gene_features=lambda sequences, layer, pool: np.stack([rows[one] for one in sequences]))
    for pair, change in ((("C", "G"), changes.mean(axis=0)), (("A", "G"), changes[1] / 2), (("G", "G"), changes[1])):
        edit = ReplaceHaplotypes((pair[0] * 512, pair[1] * 512), "A" * 512)
        found = pipe(make_cells(), gene="SYM4", edit=edit, dna_model=dna_model).genes
        expected = pipe(make_cells(), gene="SYM4", edit=reference + change).genes
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3)


def test_cells_ranked_once_and_the_options_of_tables() -> None:
    pipe = make_pipeline()
    ranked = pipe.preprocess(make_cells())
    result = pipe(ranked, gene="SYM4", mixture=True, gene_sets={"set": ["SYM1", "SYM2", "SYM3"]})
    plain = pipe(make_cells(), gene="SYM4", gene_sets={"set": ["SYM1", "SYM2", "SYM3"]})
    pd.testing.assert_frame_equal(result.genes.drop(columns=["p_moved", "moved"]), plain.genes)
    pd.testing.assert_frame_equal(result.sets, plain.sets)
    assert result.summary["mixture"]["stable_mean"] < result.summary["mixture"]["moved_mean"]
    assert {"p_value", "p_value_two_sided", "p_value_matched", "auc_low", "shift_ratio"} <= set(result.sets)
    assert (result.genes["shift_low"].dropna() <= result.genes["shift"][result.genes["shift_low"].notna()]).all()
    seconds = result.summary["seconds"]
    assert set(seconds) == {"reading", "model", "other", "statistics"} and min(seconds.values()) > 0


def test_cells_without_the_gene_are_counted() -> None:
    counts = make_cells().X.toarray()
    summary = make_pipeline()(make_cells(), gene=GENES[4]).summary
    with_gene = int((counts[:, 4] > 0).sum())
    assert 0 < with_gene < N_CELLS - 1
    assert summary["n_cells"] == N_CELLS
    assert summary["n_cells_with_gene"] == with_gene
    assert summary["n_cells_without_gene"] == N_CELLS - with_gene
    assert summary["n_cells_without_any_gene"] == 1


def test_neither_order_nor_batches_of_cells_matter() -> None:
    pipe = make_pipeline()
    expected = pipe(make_cells(), gene="SYM4").genes.set_index("gene_id")
    order = np.random.default_rng(5).permutation(N_CELLS)
    for batch_size, cells in ((1, make_cells()), (7, make_cells(order)), (100, make_cells(order))):
        found = pipe(cells, gene="SYM4", batch_size=batch_size).genes.set_index("gene_id").loc[expected.index]
        np.testing.assert_allclose(found["shift"], expected["shift"], rtol=1e-3, atol=1e-12)
        assert found["n_cells"].tolist() == expected["n_cells"].tolist()


def test_a_data_set_gives_what_the_counts_give() -> None:
    pipe = make_pipeline()
    dataset = Dataset.from_dict({"input_ids": make_tokenizer().encode_counts(make_cells().X, GENES)["input_ids"]})
    pd.testing.assert_frame_equal(pipe(dataset, gene="SYM4").genes, pipe(make_cells(), gene="SYM4").genes)


def test_features_of_the_reference_move_nothing() -> None:
    pipe = make_pipeline()
    reference = pipe.model.bert.gene_token_embeddings.table.features[6].numpy()
    assert pipe(make_cells(), gene="SYM4", edit=reference).genes["shift"].max() < 1e-12


def test_donors_carry_their_own_dna_in_both_passes() -> None:
    pipe = make_pipeline(variant_encoding="difference")
    index = np.full((2, N_GENES), -1, dtype=np.int32)
    index[1, 4], index[1, 7] = 0, 1
    donor_features = np.random.default_rng(2).normal(size=(2, N_FEATURES)).astype(np.float32)
    donors = SimpleNamespace(
        donors=["d0", "d1"], gene_ids=GENES, donor_features=donor_features, donor_feature_index=index
    )
    of_donor = {name: make_cells()[make_cells().obs["donor"] == name].copy() for name in ("d0", "d1")}
    for edit in ("delete", "mask"):
        plain = pipe(of_donor["d0"], gene="SYM4", edit=edit).genes
        pd.testing.assert_frame_equal(pipe(of_donor["d0"], gene="SYM4", edit=edit, gene_features=donors).genes, plain)
    # Giving donor d1 the features that it has already moves nothing; they move the others' genes.
    same = pipe(of_donor["d1"], gene="SYM4", edit=donor_features[0], gene_features=donors).genes
    other = pipe(of_donor["d0"], gene="SYM4", edit=donor_features[0], gene_features=donors).genes
    assert same["shift"].max() < 1e-12 < 1e-6 < other["shift"].max()
    # Each pass of d1 equals that of a model whose reference is d1.
    found = pipe(of_donor["d1"], gene="SYM4", gene_features=donors).genes.set_index("gene_id")
    assert not np.allclose(
        found["shift"], pipe(of_donor["d1"], gene="SYM4").genes.set_index("gene_id")["shift"].loc[found.index]
    )


def test_variants_of_replace_equal_a_model_with_that_reference() -> None:
    features = np.random.default_rng(2).normal(size=(1, N_FEATURES)).astype(np.float32)
    index = np.full((2, N_GENES), -1, dtype=np.int32)
    index[:, 7] = 0
    donors = SimpleNamespace(donors=["d0", "d1"], gene_ids=GENES, donor_features=features, donor_feature_index=index)
    found = make_pipeline()(make_cells(), gene="SYM4", gene_features=donors).genes.set_index("gene_id")
    changed = make_pipeline()
    changed.model.bert.gene_token_embeddings.table.features[9] = torch.from_numpy(features[0])
    expected = changed(make_cells(), gene="SYM4").genes.set_index("gene_id").loc[found.index]
    np.testing.assert_allclose(found["shift"], expected["shift"], rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("kind", ["delete", "mask", "features"])
def test_sham_edits_equal_edits_of_those_genes(kind: str) -> None:
    pipe = make_pipeline()
    table = pipe.model.bert.gene_token_embeddings.table.features.numpy()
    change = np.random.default_rng(1).normal(size=N_FEATURES).astype(np.float32)
    edit: Any = table[6] + change if kind == "features" else kind
    result = pipe(make_cells(), gene="SYM4", edit=edit, sham_genes=3, seed=2, batch_size=5)
    shams = result.summary["sham_genes"]
    assert len(shams) == 3 and GENES[4] not in shams
    with_gene = make_cells()[make_cells().X.toarray()[:, 4] > 0].copy()
    logs = {gene: [] for gene in GENES}
    for sham in shams:
        edit = table[GENES.index(sham) + 2] + change if kind == "features" else kind
        for row in pipe(with_gene, gene=sham, edit=edit).genes.itertuples():
            logs[row.gene_id].append(np.log(row.shift))
    for row in result.genes.itertuples():
        assert row.n_sham == len(logs[row.gene_id])
        if row.n_sham:
            assert row.shift_normalised == pytest.approx(np.log(row.shift) - np.mean(logs[row.gene_id]), abs=1e-3)
    again = pipe(
        make_cells(), gene="SYM4", edit=kind if kind != "features" else table[6] + change, sham_genes=3, seed=2
    )
    assert again.summary["sham_genes"] == shams


def test_random_mutations_through_a_dna_model() -> None:
    torch.manual_seed(0)
    enformer = EnformerForGeneFeatures(
        EnformerConfig(dim=24, depth=1, heads=2, output_heads={"human": 2}, attn_dim_key=8, dim_divisible_by=12)
    ).eval()
    windows = ["".join(np.random.default_rng(seed).choice(list("ACGT"), 512)) for seed in range(N_GENES + 2)]
    pipe = make_pipeline(variant_encoding="difference")
    with torch.inference_mode():
        pipe.model.set_gene_features(enformer.gene_features(windows, layer="transformer", pool="all"))
    few = RandomMutations(windows[6], count=3, window_bp=200, seed=0)
    result = pipe(make_cells(), gene="SYM4", edit=few, dna_model=enformer)
    assert len(result.summary["edit"]["mutations"]) == 3
    assert result.summary["edit"]["feature_change_in_standard_deviations"] > 0
    assert result.genes["shift"].max() > 0
    with pytest.raises(ValueError, match="differ from those that the model holds for this gene"):
        pipe(make_cells(), gene="SYM4", edit=RandomMutations(windows[9], count=3), dna_model=enformer)


def test_gene_sets_count_what_is_missing() -> None:
    sets = {"targets": ["SYM1", "SYM2", "SYM4", "SYM29", "NOSUCH"], "others": ["SYM9", GENES[10]]}
    result = make_pipeline()(make_cells(), gene="SYM4", gene_sets=sets)
    row = result.sets.iloc[0]
    # The edited gene and a gene that no cell expresses are in the vocabulary and not in the test.
    assert row[["gene_set", "n_given", "n_in_vocabulary", "n_tested"]].tolist() == ["targets", 5, 4, 2]
    assert result.sets["q_value"].between(0, 1).all()
    assert result.gene_sets["targets"] == [GENES[1], GENES[2], GENES[4], GENES[29]]


def test_genes_in_few_cells_are_left_out_and_counted() -> None:
    pipe = make_pipeline()
    everything = pipe(make_cells(), gene="SYM4").genes
    result = pipe(make_cells(), gene="SYM4", minimum_cells=5)
    rare = int((everything["n_cells"] < 5).sum())
    assert rare > 0 and result.summary["n_genes_in_fewer_cells_than_minimum"] == rare
    assert len(result.genes) == len(everything) - rare and result.genes["n_cells"].min() >= 5


def test_bert_models_without_dna_work_with_token_edits(tmp_path: Path) -> None:
    pipe = make_pipeline(adapter_type="none")
    assert pipe(make_cells(), gene="SYM4", edit="delete").genes["shift"].max() > 0
    config = BertConfig(
        vocab_size=N_GENES + 2, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20
    )
    geneformer = GeneEmbeddingPerturbationPipeline(BertForMaskedLM(config), make_tokenizer(), device="cpu")
    assert geneformer(make_cells(), gene="SYM4").genes["shift"].max() > 0
    with pytest.raises(ValueError, match=r"changes DNA, and this model reads none"):
        geneformer(make_cells(), gene="SYM4", edit=np.zeros(N_FEATURES))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gene": "SYM44"}, "'SYM44' is not among the 32 tokens.*did you mean SYM4"),
        ({"gene": "ENSG99999999999"}, "is not among the 32 tokens of the vocabulary"),
        ({"gene": "SYM29"}, "none of the 23 cells expresses SYM29"),
        ({"gene": "SYM4", "edit": "remove"}, "unknown edit 'remove'"),
        ({"gene": "SYM4", "edit": np.zeros(9)}, r"shape \(9,\), and the model expects \(24,\)"),
        ({"gene": "SYM4", "edit": "ACGT" * 128}, "needs a DNA model"),
        ({"gene": "SYM4", "layer": 1}, "layer 1 is none of the model's 3"),
        ({"gene": "SYM4", "layer": -3}, "layer -3 is none.*down to -2"),
        ({"gene": "SYM4", "sham_genes": 30}, "sham_genes is 30, and .* other genes"),
        ({"gene": "SYM4", "gene_sets": {"empty": []}}, "'empty' has no genes"),
        ({"gene": "SYM4", "batch_size": 0}, "batch_size is 0"),
        ({"gene": ["SYM4", "SYM4"]}, "the same gene is to be edited twice, as SYM4 and as SYM4"),
        ({"gene": ["SYM4", GENES[4]]}, f"edited twice, as SYM4 and as {GENES[4]}"),
        ({"gene": []}, r"gene is '\[\]': expected a gene id or symbol"),
        ({"gene": ["SYM4", "SYM29"]}, r"expresses what is to be edited \(SYM4 in \d+, SYM29 in 0\).*require_all=False"),
        ({"gene": [("SYM4", "mask")], "edit": "mask"}, "given with its edit, and edit as well"),
        ({"gene": "SYM4", "edit": SetRank(30)}, r"rank 30 lies beyond the last gene of all .* give a rank from 0 to"),
        ({"gene": "SYM4", "gene_sets": {"mouse": ["Gata4"]}}, "no gene of the 1 gene sets is in the vocabulary"),
        ({"gene": "SYM4", "noise_cells": -1}, "noise_cells is -1"),
        ({"gene": "SYM4", "level": 95}, "level is 95"),
        ({"gene": "SYM4", "bootstraps": -1}, "bootstraps is -1"),
        ({"gene": "SYM4", "alternative": "more"}, "alternative is 'more'"),
        ({"gene": "SYM4", "goal": "well"}, "goal is 'well': expected GoalState"),
        (
            {"gene": "SYM4", "goal": {"column": "donor", "start": "d0", "goal": "d9"}},
            "no cell is in the goal of the goal",
        ),
        ({"gene": "SYM4", "goal": {"column": "donor", "start": "d0", "goal": "d0"}}, "both in the start"),
        ({"gene": "SYM4", "goal": {"column": "state", "start": "a", "goal": "b"}}, "have no column 'state'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_pipeline()(make_cells(), **options)


def test_a_gene_twice_in_a_cell_is_named() -> None:
    dataset = Dataset.from_dict({"input_ids": [[6, 7], [6, 8, 6]]})
    with pytest.raises(ValueError, match="SYM4 is 3 times in 2 cells"):
        make_pipeline()(dataset, gene="SYM4")


def test_an_ambiguous_symbol_names_its_genes() -> None:
    pipe = make_pipeline()
    symbols = {GENES[3]: "TWIN", GENES[4]: "TWIN"}
    pipe.tokenizer = GeneRankTokenizer.from_dictionaries(pipe.tokenizer.get_vocab(), None, symbols)
    with pytest.raises(ValueError, match=f"2 genes have the symbol TWIN: {GENES[3]}, {GENES[4]}"):
        pipe(make_cells(), gene="TWIN")


def test_a_tokenizer_that_does_not_fit_is_named() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="needs a GeneRankTokenizer, and has NoneType"):
        GeneEmbeddingPerturbationPipeline(model, device="cpu")
    with pytest.raises(ValueError, match="34 tokens and the model's vocabulary 32"):
        GeneEmbeddingPerturbationPipeline(model, make_tokenizer(["<pad>", "<mask>", "<cls>", "<eos>"]), device="cpu")
    swapped = {token: number for number, token in enumerate([*SPECIAL, GENES[1], GENES[0], *GENES[2:]])}
    with pytest.raises(ValueError, match=f"2 tokens of the tokenizer are not.*id 2 is {GENES[1]}"):
        GeneEmbeddingPerturbationPipeline(model, GeneRankTokenizer.from_dictionaries(swapped, None), device="cpu")
    with pytest.raises(ValueError, match="unknown options of the pipeline: gene"):
        GeneEmbeddingPerturbationPipeline(model, make_tokenizer(), device="cpu", gene="SYM4")


def test_half_precision_is_said(caplog: pytest.LogCaptureFixture) -> None:
    pipe = GeneEmbeddingPerturbationPipeline(make_model().to(torch.bfloat16), make_tokenizer(), device="cpu")
    with caplog.at_level(logging.WARNING):
        result = pipe(make_cells(), gene="SYM4")
    assert "bfloat16" in caplog.text and result.summary["dtype"] == "bfloat16"
    assert np.isfinite(result.genes["shift"]).all()


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu() -> None:
    expected = make_pipeline()(make_cells(), gene="SYM4", sham_genes=3).genes.set_index("gene_id")
    pipe = GeneEmbeddingPerturbationPipeline(make_model(), make_tokenizer(), device="cuda")
    found = pipe(make_cells(), gene="SYM4", sham_genes=3).genes.set_index("gene_id").loc[expected.index]
    np.testing.assert_allclose(found["shift"], expected["shift"], rtol=1e-2, atol=1e-9)
    np.testing.assert_allclose(found["shift_normalised"], expected["shift_normalised"], atol=1e-2)
