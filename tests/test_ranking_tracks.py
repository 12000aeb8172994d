"""Loci in the order of the genome, their track over several pieces, and their figures."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from omics_transformers.data_scripts.genomes import Genome, open_genome
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.pipelines import region_ranking_track
from omics_transformers.pipelines.region_ranking import RegionRankingPipeline
from omics_transformers.pipelines.segmentation_tracks import read_bigwig
from omics_transformers.ranking_tracks import Loci, draw_tracks, write_track

SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 900)) + "N" * 100


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr2\n{SEQUENCE}\n>chr10\n{SEQUENCE[:300]}\n")
    with open_genome(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipe() -> RegionRankingPipeline:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = NTRegionRankerConfig(**sizes, num_tokens=21, scorer_head="linear", initializer_range=0.3)
    return RegionRankingPipeline(NTRegionRanker(config), NucleotideKmerTokenizer(), device="cpu")


def read(genome: Genome, pipe: RegionRankingPipeline, *loci: str) -> Loci:
    return Loci.read(genome, loci, pipe, pipe.track_settings(region_bp=60, step_bp=20))


def test_a_track_of_several_pieces(
    genome: Genome, pipe: RegionRankingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [pipe.track(name, genome, region_bp=60, step_bp=20).values for name in ("chr2", "chr10")]
    monkeypatch.setattr(region_ranking_track, "_STEPS_A_PIECE", 7)
    loci = read(genome, pipe, "chr10", "chr2:1-400", "chr2:301-1,000")
    assert [str(region) for region in loci.regions] == ["chr2:1-1,000", "chr10:1-300"]
    write_track(tmp_path / "tracks" / "scores.bw", loci, pipe, pipe.score_settings(), progress=False)
    for contig, values in zip(("chr2", "chr10"), expected, strict=True):
        found = read_bigwig(tmp_path / "tracks" / "scores.bw", contig, 0, len(values))
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_errors_of_a_later_piece_come_through(
    genome: Genome,
    pipe: RegionRankingPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    calls = []
    predict = pipe._predict

    def fail_later(*arguments: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 4:
            raise error("stopped here")
        return predict(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(region_ranking_track, "_STEPS_A_PIECE", 7)
    monkeypatch.setattr(pipe, "_predict", fail_later)
    with pytest.raises(error, match="stopped here"):
        write_track(tmp_path / "scores.bw", read(genome, pipe, "chr2"), pipe, pipe.score_settings(), progress=False)
    assert not list(tmp_path.iterdir())


def test_rows_of_the_summary(genome: Genome, pipe: RegionRankingPipeline) -> None:
    (row,) = read(genome, pipe, "chr2:801-1,000").as_rows()
    assert row["locus"] == "chr2:801-1,000" and row["steps"] == 10
    assert row["scored_steps"] + row["steps_rich_in_n"] + row["steps_with_too_many_tokens"] == 10
    assert read(genome, pipe).regions == []


def test_loci_without_a_value(genome: Genome, pipe: RegionRankingPipeline) -> None:
    with pytest.raises(ValueError, match=r"no step of chr2:941-1,000 has a value: .*--maximum-unknown"):
        read(genome, pipe, "chr2:941-1,000")
    assert len(read(genome, pipe, "chr2:941-1,000", "chr10").regions) == 2


def test_figures(
    genome: Genome, pipe: RegionRankingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    loci = read(genome, pipe, "chr2:1-200", "chr2:301-400", "chr10")
    write_track(tmp_path / "scores.bw", loci, pipe, pipe.score_settings(), progress=False)
    regions = pd.DataFrame({"contig": ["chr2"], "start": [10], "end": [50]})
    with_regions, without = (draw_tracks(tmp_path / "scores.bw", loci, table) for table in (regions, None))
    assert list(without) == ["chr2_1-200", "chr2_301-400", "chr10_1-300"] == list(with_regions)
    assert with_regions["chr2_1-200"] != without["chr2_1-200"]
    assert with_regions["chr10_1-300"] == without["chr10_1-300"] and not caplog.text
    monkeypatch.setattr("omics_transformers.ranking_tracks.MOST_FIGURES", 1)
    with caplog.at_level(logging.WARNING):
        assert list(draw_tracks(tmp_path / "scores.bw", loci, None)) == ["chr2_1-200"]
    assert "1 of 3 loci are drawn" in caplog.text
