"""Names of SOMA experiments mean the same as text, as paths, and in any folder."""

import sys
from pathlib import Path

import pytest

from omics_transformers.data_scripts.cells_plan import CellsSettings, Tables, fingerprint
from omics_transformers.data_scripts.count_files import input_files, located, open_counts
from omics_transformers.data_scripts.soma_addresses import SomaAddress, census_input, soma_address, soma_input


def test_addresses_survive_being_paths():
    condition = "tissue == 'heart/left' and is_primary_data == True"
    for location in (
        "s3://bucket/folder/cells",
        "gs://b/c",
        "tiledb://workspace/cells",
        "census:2025-01-30/mus_musculus",
    ):
        assert soma_address(soma_input(location, obs_value_filter=condition)) == SomaAddress(location, condition)
        assert soma_address(Path(location)) == SomaAddress(location, None)
        assert input_files(Path(location)) == {}
    assert soma_address(Path("file:///data/cells")) == SomaAddress("/data/cells", None)
    assert soma_address(Path("cells.h5ad")) is None
    assert soma_input("cells", obs_value_filter=condition).name.startswith("cells?obs_value_filter=tissue == ")


def test_the_census_is_named_by_date_and_organism(monkeypatch):
    assert census_input("2025-01-30", "Homo sapiens") == Path("census:2025-01-30/homo_sapiens")
    with pytest.raises(ValueError, match=r"census_version is 'stable'; expected the date.*_directory\(\)"):
        census_input("stable", "homo_sapiens")
    with pytest.raises(ValueError, match="organism is 'homo/sapiens'; expected its name"):
        census_input("2025-01-30", "homo/sapiens")
    with pytest.raises(ValueError, match=r"organism is ''; expected"):
        open_counts("census:2025-01-30")
    monkeypatch.setitem(sys.modules, "cellxgene_census", None)
    with pytest.raises(ImportError, match=r"cellxgene_census cannot be imported.*omics-transformers\[census\]"):
        open_counts(census_input("2025-01-30", "homo_sapiens"))


def test_what_lies_elsewhere_is_found_from_any_folder():
    assert located(Path("s3://bucket/cells"), Path("/there")) == Path("s3://bucket/cells")
    assert located(Path("census:2025-01-30/homo_sapiens"), Path("/there")) == Path("census:2025-01-30/homo_sapiens")
    assert located(Path("cells.soma"), Path("/there")) == Path("/there/cells.soma")
    states = fingerprint([Path("s3://bucket/cells")], CellsSettings(), Tables(None, None, None))["inputs"]
    assert states == [{"path": str(Path("s3://bucket/cells")), "files": []}]
