"""The region-ranking pipeline on a small ranker: against one plain pass a region, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines.region_ranking import RegionRankingPipeline
from omics_transformers.pipelines.segmentation_tracks import read_bigwig

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def make_pipeline(**changes: Any) -> RegionRankingPipeline:
    torch.manual_seed(0)
    sizes = {**TINY, "num_tokens": 21, "scorer_head": "linear", "initializer_range": 0.3}
    model = NTRegionRanker(NTRegionRankerConfig(**{**sizes, **changes}))
    if model.cell_type_embeddings is not None:
        torch.nn.init.normal_(model.cell_type_embeddings.weight)
    return RegionRankingPipeline(model, NucleotideKmerTokenizer(), device="cpu")


@pytest.fixture(scope="module")
def pipe() -> RegionRankingPipeline:
    return make_pipeline()


def random_dna(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


SEQUENCE = random_dna(800, seed=1) + "N" * 200
REGIONS = [random_dna(length, seed=length) for length in (120, 6, 1, 61, 90, 119 - 5, 24, 77)] + ["ACGTN" * 4]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr20\n{SEQUENCE}\n>chrM\nACGTAC\n")
    with open_genome(path) as opened:
        yield opened


def plain_score(
    pipe: RegionRankingPipeline, sequence: str, before: int = 0, cell_type_ids: list[int] | None = None
) -> float:
    """One region through the tokenizer's ordinary call, padded by hand, and the model."""
    cls, *tokens = pipe.tokenizer(sequence)["input_ids"]
    padding = 20 - len(tokens)
    ids = [cls, *[pipe.tokenizer.pad_token_id] * before, *tokens, *[pipe.tokenizer.pad_token_id] * (padding - before)]
    with torch.inference_mode():
        chosen = None if cell_type_ids is None else torch.tensor(cell_type_ids)
        return pipe.model(input_ids=torch.tensor([[ids]]), cell_type_ids=chosen).scores.item()


@pytest.mark.parity
@pytest.mark.parametrize(
    ("head", "batch_size"), [("linear", 1), ("linear", None), ("transformer", 4), ("unet", 4), ("convolutional", 4)]
)
def test_equals_a_plain_pass_a_region(head: str, batch_size: int | None) -> None:
    pipe = make_pipeline(scorer_head=head)
    found = pipe(REGIONS, batch_size=batch_size)
    expected = [plain_score(pipe, sequence) for sequence in REGIONS]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(found.scores) > 0.005  # of a model that says something
    order = np.argsort(-found.scores, kind="stable")
    assert found.regions.index.tolist() == order.tolist()
    assert found.regions["rank"].tolist() == list(range(1, len(REGIONS) + 1))


@pytest.mark.parity
def test_places_of_the_padding_and_strands(pipe: RegionRankingPipeline) -> None:
    sequence = random_dna(60)
    backward = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    places = [plain_score(pipe, sequence, before) for before in (0, 5, 10)]
    assert pipe([sequence], padding_draws=3).scores[0] == pytest.approx(np.mean(places), abs=1e-5)
    both = (places[0] + plain_score(pipe, backward)) / 2
    assert pipe([sequence], reverse_complement=True).scores[0] == pytest.approx(both, abs=1e-5)
    options = {"padding_draws": 4, "reverse_complement": True}
    assert pipe([sequence], **options).scores[0] == pytest.approx(pipe([backward], **options).scores[0], abs=1e-5)
    assert len({round(place, 4) for place in places}) == 3


def test_cell_types() -> None:
    pipe = make_pipeline(cell_types=["alpha", "beta"], scorer_head="convolutional")
    for number, name in enumerate(["alpha", "beta"]):
        found = pipe(REGIONS, cell_type=name)
        expected = [plain_score(pipe, sequence, cell_type_ids=[number]) for sequence in REGIONS]
        np.testing.assert_allclose(found.scores, expected, atol=1e-5)
        assert found.summary["cell_type"] == name
    assert not np.allclose(pipe(REGIONS, cell_type="alpha").scores, pipe(REGIONS, cell_type="beta").scores)
    with pytest.raises(ValueError, match=r"the cell type is missing: give cell_type .* one of alpha, beta"):
        pipe(REGIONS)
    with pytest.raises(ValueError, match=r"the model knows no cell type 'gamma': give .* alpha, beta"):
        pipe(REGIONS, cell_type="gamma")


def test_regions_of_a_genome(pipe: RegionRankingPipeline, genome: Genome) -> None:
    chosen = ["chr20:101-200", ("chr20", 0, 60, "first"), ("chrM", 0, 6), ("20", 100, 200)]
    for given in (genome, genome.path):
        members = chosen if given is genome else chosen[:3]  # aliases are the package's
        found = pipe(members, genome=given)
        expected = pipe([SEQUENCE[100:200], SEQUENCE[:60], "ACGTAC"]).scores
        np.testing.assert_allclose(found.scores[:3], expected, atol=1e-6)
    found = pipe(chosen, genome=genome)
    assert found.scores[3] == found.scores[0]
    ranks = found.regions["rank"].sort_index()
    assert ranks[0] == ranks[3] and ranks.max() in (3, 4)  # ties share
    assert found.regions["name"].sort_index().tolist() == ["", "first", "", ""]


def test_equal_sequences_tie_whatever_their_batch(pipe: RegionRankingPipeline) -> None:
    found = pipe([*REGIONS, *REGIONS[::-1], REGIONS[0].lower()], batch_size=4)
    np.testing.assert_array_equal(found.scores[:9], found.scores[9:18][::-1])
    assert found.scores[18] == found.scores[0]


def test_regions_of_n_have_no_score(pipe: RegionRankingPipeline, genome: Genome) -> None:
    found = pipe([("chr20", 820, 840), ("chr20", 795, 805), ("chr20", 0, 60), ("chr20", 820, 840)], genome=genome)
    assert np.isnan(found.scores).tolist() == [True, False, False, True]
    assert found.summary["nothing_but_n"] == 2 and found.summary["scored"] == 2
    assert found.summary["unknown_bases"] == 45
    assert found.regions["rank"].isna().tolist() == [False, False, True, True]
    assert np.isnan(pipe(["NNN", "N" * 100]).scores).all()  # more N than the model has tokens


def test_long_regions(pipe: RegionRankingPipeline, genome: Genome) -> None:
    found = pipe(["chr20:1-800"], genome=genome, long_regions="center")
    assert found.scores[0] == pytest.approx(plain_score(pipe, SEQUENCE[340:460]), abs=1e-5)
    assert found.summary["shortened"] == 1 and found.regions.iloc[0]["scored_start"] == 340
    assert pipe([SEQUENCE[:800]], long_regions="center").scores[0] == pytest.approx(found.scores[0], abs=1e-6)


def test_variants(pipe: RegionRankingPipeline, genome: Genome) -> None:
    base = SEQUENCE[199]
    other = "A" if base != "A" else "C"
    text = f"chr20:200:{base}>{other}"
    found = pipe.variants([text], genome, region_bp=60)
    row = found.variants.iloc[0]
    start = row["region_start"]
    reference = SEQUENCE[start : start + 60]
    alternative = reference[: 199 - start] + other + reference[200 - start :]
    assert row["reference_score"] == pytest.approx(plain_score(pipe, reference), abs=1e-5)
    assert row["effect"] == pytest.approx(plain_score(pipe, alternative) - plain_score(pipe, reference), abs=1e-5)
    assert found.summary["region_bp"] == 60 and found.summary["padding_draws"] == 1
    assert pipe.variants([text], genome.path, region_bp=60).variants.equals(found.variants)


def test_track(pipe: RegionRankingPipeline, genome: Genome, tmp_path: Path) -> None:
    found = pipe.track("chr20:101-300", genome, region_bp=60, step_bp=20)
    assert found.values.shape == (200,) and found.values.dtype == np.float32
    assert found.values[45] == pytest.approx(plain_score(pipe, SEQUENCE[120:180]), abs=1e-5)
    assert len(np.unique(found.values)) == 10 and found.summary["scored_steps"] == 10
    found.to_bigwig(tmp_path / "scores.bw")
    np.testing.assert_array_equal(read_bigwig(tmp_path / "scores.bw", "chr20", 100, 300), found.values)
    whole = pipe.track("chr20", genome.path, region_bp=60, step_bp=20)
    np.testing.assert_allclose(whole.values[100:300], found.values, atol=1e-6)
    assert np.isnan(whole.values[840:]).all() and whole.summary["steps_rich_in_n"] == 10


def test_lengths_of_regions_around_variants_and_steps(pipe: RegionRankingPipeline) -> None:
    assert pipe.region_bp() == 120  # 500 is more than it takes
    assert make_pipeline(num_tokens=101).region_bp() == 500
    assert make_pipeline(region_bp=77).region_bp() == 77
    assert make_pipeline(region_bp=119).region_bp() == 114
    assert pipe.track_settings().step_bp == 24
    assert pipe.track_settings(region_bp=60, step_bp=7) == (60, 7, 0.5)
    with pytest.raises(ValueError, match="region_bp is 119, which is 25 tokens"):
        pipe.region_bp(119)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"padding_draws": 0}, "padding_draws is 0"),
        ({"cell_type": "alpha"}, "cell_type is 'alpha', and this model's scores depend on none"),
        ({"long_regions": "start"}, "long_regions is 'start'"),
        ({"genome": 7}, "genome is of type int"),
        ({"inputs": []}, "there is no region to rank"),
        ({"inputs": ["ACGE"]}, "the letter 'E'"),
        ({"inputs": [random_dna(121)]}, r"1 of 1 regions have more tokens.* sequence_1:1-121"),
    ],
)
def test_bad_input_before_the_model_runs(
    pipe: RegionRankingPipeline, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(pipe, "_forward", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        pipe(**{"inputs": ["ACGT"], **options})


def test_models_and_tokenizers_that_do_not_fit(pipe: RegionRankingPipeline) -> None:
    encoder = NucleotideTransformerModel(NucleotideTransformerConfig(**TINY))
    with pytest.raises(ValueError, match="the model is a nucleotide-transformer, which does not score regions"):
        RegionRankingPipeline(encoder, pipe.tokenizer, device="cpu")
    with pytest.raises(ValueError, match="unknown options of the pipeline: genome"):
        RegionRankingPipeline(pipe.model, pipe.tokenizer, device="cpu", genome="hg38.fa")


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    cpu, gpu = make_pipeline(), make_pipeline()
    gpu.device = torch.device("cuda")
    gpu.model.to("cuda")
    np.testing.assert_allclose(gpu(REGIONS).scores, cpu(REGIONS).scores, atol=1e-3)
