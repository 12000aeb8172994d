"""MultiVI's latent space: of any modality, seeded, and without scvi-tools an error that says what to install."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.multivi_baseline import latent_space, require_multivi

pytest.importorskip("scvi")
pytestmark = pytest.mark.filterwarnings("ignore")  # scvi-tools and its libraries, of each other


@pytest.mark.parametrize("modalities", [("rna",), ("atac",), ("rna", "atac")])
def test_cells_of_a_type_lie_together(toy_multiome: Path, modalities: tuple) -> None:
    cells = read_multiome(toy_multiome).cells
    rows = [np.arange(200, 280), np.arange(0), np.arange(280, 320)]
    training, nothing, test = latent_space(cells, rows, modalities, seed=0, maximum_epochs=25)
    assert training.shape == (80, 20) and nothing.shape == (0, 20) and test.shape == (40, 20)
    types = [some % 4 for some in rows]
    right = KNeighborsClassifier(5).fit(training, types[0]).score(test, types[2])
    assert right > 0.5  # chance is 0.25


def test_the_same_seed_gives_the_same(toy_multiome: Path) -> None:
    cells, rows = read_multiome(toy_multiome).cells, [np.arange(200, 240), np.arange(240, 250)]
    first, again, other = (latent_space(cells, rows, ("rna",), seed=seed, maximum_epochs=2)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_without_scvi_tools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scvi", None)
    with pytest.raises(ImportError, match=r"needs scvi-tools .*pip install 'omics-transformers\[multivi\]'"):
        require_multivi()
