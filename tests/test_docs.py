"""The documentation runs: each code block of the tutorial in turn, and what README and definitions point to exists."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def run_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Runs all Python blocks of a page in turn, in the test's folder; gives what they printed."""

    def run(page: str) -> str:
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
        script = tmp_path / "page.py"
        script.write_text("\n".join(blocks))
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    printed = run_page("tutorial.md")
    assert (tmp_path / "perturbed" / "report.html").is_file()
    assert "held-out perplexity" in printed and "shift_normalised" in printed


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_segmentation_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    run_page("segmentation.md")
    scores = pd.read_csv(tmp_path / "segment-nt" / "elements.tsv", sep="\t").set_index(["split", "element"])
    assert scores.loc[("test", "exon"), "mcc_low"] > 0.5
    assert (tmp_path / "tracks" / "tracks" / "exon.bw").is_file() and list((tmp_path / "tracks" / "figures").iterdir())
    assert (tmp_path / "explained" / "mutagenesis.tsv").is_file() and (tmp_path / "effects" / "effects.tsv").is_file()


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_region_ranking_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    printed = run_page("region_ranking.md")
    scores = pd.read_csv(tmp_path / "ranker" / "ranking.tsv", sep="\t").set_index(["split", "cell_type"])
    assert scores.loc[("test", "all"), "exact_order_low"] > scores.loc[("test", "all"), "exact_order_chance"]
    assert (tmp_path / "ranked" / "regions.tsv").is_file() and list((tmp_path / "ranked" / "tracks").iterdir())
    assert "regions.tsv" in printed


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_genetics_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    printed = run_page("perturbation.md")
    candidates = pd.read_csv(tmp_path / "mutated" / "candidates.tsv", sep="\t").set_index("rank")
    assert len(candidates) == 20 and candidates.loc[1, "predicted_change"] < 0 and candidates.loc[1, "is_chosen"]
    assert (tmp_path / "mutated" / "table1.tsv").is_file() and (tmp_path / "of-a-donor" / "variants.tsv").is_file()
    assert (tmp_path / "deleted" / "figures" / "figure_3.png").is_file() and "co-expression" in printed
    for name in ("of-a-donor", "mutated", "inserted", "deleted"):
        assert "makes no claim about biology" in (tmp_path / name / "report.html").read_text().replace("\n", " ")


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_multiome_cells_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    run_page("multiome.md")
    found = pd.read_csv(tmp_path / "classifier" / "summary.tsv", sep="\t").set_index("method")
    assert found.loc["multiome_performer", "mcc"] > 0.3
    metrics = json.loads((tmp_path / "pretrained" / "metrics.json").read_text())["validation"]
    assert metrics["accuracy"] > metrics["most_frequent_of_all"]


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_of_pretraining_runs_as_it_stands(run_page: Callable[[str], str], tmp_path: Path) -> None:
    printed = run_page("pretraining.md")
    assert "held-out perplexity" in printed and "cells read" in printed
    assert (tmp_path / "packed" / "model.safetensors").is_file() and (tmp_path / "streamed" / "metrics.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_can_be_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 500
