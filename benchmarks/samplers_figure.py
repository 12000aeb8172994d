"""The figure of `samplers.py`: what each order costs in padding and in perplexity, and how it gets there."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SHOWN_ON_THE_WAY = ("random", "ours", "group_by_length", "sorted", "sorted, constant rate")

Found = dict[tuple[str, str, int], dict[str, Any]]


def draw(found: Found, path: Path) -> None:
    """A row of three panels a kind of cells; a colour an order."""
    kinds = list(dict.fromkeys(cells for cells, _, _ in found))
    arms = list(dict.fromkeys(arm for _, arm, _ in found))
    colours = {arm: plt.get_cmap("tab10")(number % 10) for number, arm in enumerate(arms)}
    figure, panels = plt.subplots(len(kinds), 3, figsize=(15, 4.5 * len(kinds)), squeeze=False, layout="constrained")
    for row, cells in zip(panels, kinds, strict=True):
        of_cells = {
            arm: [one for (kind, name, _), one in found.items() if (kind, name) == (cells, arm)] for arm in arms
        }
        _padding_and_perplexity(row[0], of_cells, colours)
        _on_the_way(row[1], of_cells, colours)
        _by_length(row[2], of_cells, colours)
        row[0].set_title(cells)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _padding_and_perplexity(panel: Axes, found: dict[str, list[dict[str, Any]]], colours: dict[str, Any]) -> None:
    for arm, own in found.items():
        padding = [100 * one["padding_share"] for one in own]
        panel.plot(padding, [one["test_perplexity"] for one in own], "o", color=colours[arm], label=arm, alpha=0.8)
    panel.set(xlabel="padding, % of the tokens", ylabel="held-out perplexity", yscale="log")
    panel.legend(fontsize=8)


def _on_the_way(panel: Axes, found: dict[str, list[dict[str, Any]]], colours: dict[str, Any]) -> None:
    """The first seed only: means would hide the saw's teeth."""
    for arm in SHOWN_ON_THE_WAY:
        if arm in found:
            looks = found[arm][0]["on_the_way"]
            steps, perplexities = [look["step"] for look in looks], [look["perplexity"] for look in looks]
            panel.plot(steps, perplexities, color=colours[arm], label=arm)
    panel.set(xlabel="step", ylabel="held-out perplexity on the way, first seed", yscale="log")
    panel.legend(fontsize=8)


def _by_length(panel: Axes, found: dict[str, list[dict[str, Any]]], colours: dict[str, Any]) -> None:
    for arm, own in found.items():
        fifths = zip(*(one["test_perplexity_by_fifth_of_length"] for one in own), strict=True)
        panel.plot(range(1, 6), [statistics.mean(values) for values in fifths], "o-", color=colours[arm], label=arm)
    panel.set(xlabel="fifth of the held-out cells by length, shortest first", ylabel="perplexity", yscale="log")
    panel.set_xticks(range(1, 6))
