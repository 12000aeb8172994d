"""Figures of explanations: drawn without a warning from ordinary and odd tables, and alike for alike tables."""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omics_transformers.pipelines.explanation_figures import (
    draw_attention_maps,
    draw_attention_received,
    draw_attribution,
    draw_motif_comparison,
    draw_mutagenesis,
)

NO_HITS = pd.DataFrame(columns=["motif", "start", "end", "strand"])
HITS = pd.DataFrame(
    {
        "motif": ["GATA4", "CTCF", "GATA4"],
        "start": [1_010, 1_020, 5],
        "end": [1_018, 1_035, 9],
        "strand": ["+", "-", "+"],
    }
)


def colours_in(png: bytes) -> int:
    return len(Image.open(io.BytesIO(png)).convert("RGB").getcolors(10**6) or [])


def bases_of(count: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "position": 1_000 + np.arange(count),
            "base": random.choice(list("ACGTN"), size=count),
            "gradient_norm": random.random(count),
            "integrated_gradients": random.normal(size=count),
        }
    )


def mutagenesis_of(count: int, scale: float) -> pd.DataFrame:
    table = bases_of(count)[["position", "base"]]
    effects = scale * np.random.default_rng(1).normal(size=(count, 4))
    effects[table["base"] == "N"] = np.nan
    table["importance"] = -effects.sum(1) / 3
    return table.assign(**{f"effect_{base}": effects[:, column] for column, base in enumerate("ACGT")})


def attribution(count: int, hits: pd.DataFrame) -> bytes:
    return draw_attribution(bases_of(count), hits, contig="chr1", target=(1_012, 1_015), title="What")


def mutagenesis(count: int, hits: pd.DataFrame, scale: float = 1.0) -> bytes:
    return draw_mutagenesis(mutagenesis_of(count, scale), hits, contig="chr1", title="What")


def received(tokens: int) -> bytes:
    weights = np.random.default_rng(0).dirichlet(np.ones(tokens), size=(2, 3))
    ends = np.cumsum([0] + [6] * (tokens - 1))
    spans = np.stack((np.append(0, ends[:-1]), ends), axis=1)
    return draw_attention_received(weights, spans, contig="chr1", start=1_000, target=(1_003, 1_005), title="Where")


def comparison(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "scores": ["attention", "mutagenesis"] * rows,
            "matrix_id": np.repeat([f"MA{number}" for number in range(rows)], 2),
            "motif": "GATA4",
            "auroc": random.random(2 * rows),
            "q_value": random.random(2 * rows) / 10,
        }
    )


@pytest.mark.parametrize("draw", [attribution, mutagenesis])
@pytest.mark.parametrize("hits", [HITS, NO_HITS], ids=["hits", "no hits"])
@pytest.mark.parametrize("count", [1, 60, 2_000])
def test_along_the_locus(draw: Callable[[int, pd.DataFrame], bytes], hits: pd.DataFrame, count: int) -> None:
    png = draw(count, hits)
    assert png == draw(count, hits)
    assert colours_in(png) > 10


def test_hits_take_room_only_where_there_are_some() -> None:
    heights = [Image.open(io.BytesIO(attribution(60, hits))).height for hits in (HITS, NO_HITS)]
    assert heights[0] > heights[1]


def test_changes_without_an_effect() -> None:
    assert colours_in(mutagenesis(60, HITS, scale=0.0)) > 10


@pytest.mark.parametrize("tokens", [2, 50, 2_000])
def test_attention_received(tokens: int) -> None:
    assert received(tokens) == received(tokens)
    assert colours_in(received(tokens)) > 10


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 8, 8), (12, 16, 4, 32)])
def test_attention_maps(shape: tuple[int, int, int, int]) -> None:
    binned = np.random.default_rng(0).dirichlet(np.ones(shape[-1]), size=shape[:-1])
    png = draw_attention_maps(binned, title="Attention")
    assert png == draw_attention_maps(binned, title="Attention")
    assert colours_in(png) > 3


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_motif_comparison(rows: int) -> None:
    assert colours_in(draw_motif_comparison(comparison(rows), title="Motifs")) > 2
    unknown = comparison(rows).assign(auroc=np.nan)
    assert colours_in(draw_motif_comparison(unknown, title="Motifs")) > 2
