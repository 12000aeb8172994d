"""Names of SOMA experiments, as inputs of `build_cells`: a folder, a URI, or an organism of the CELLxGENE Census.

A URI begins with s3://, gs://, azure://, tiledb:// or file://; the Census is census:VERSION/ORGANISM. After
`?obs_value_filter=` may follow the condition that the cells meet. All of them outlive being a `Path`, as inputs are.
"""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

FILTER_MARK = "?obs_value_filter="
FILTER_TEXT = " =!<>()[],&|'\""  # stays readable; a slash or a percent sign is written as in URLs
CENSUS = "census:"

_SCHEME = re.compile(r"^(s3|gs|gcs|azure|tiledb|file):/+")  # a Path keeps only one of the two slashes
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


class SomaAddress(NamedTuple):
    """Where an experiment lies, and the condition on obs that its cells meet."""

    location: str  # folder, URI, or census:VERSION/ORGANISM
    obs_value_filter: str | None

    @property
    def is_remote(self) -> bool:
        """True where it is read over the network."""
        return self.location.startswith(CENSUS) or "://" in self.location


def census_input(census_version: str, organism: str, *, obs_value_filter: str | None = None) -> Path:
    """The cells of one organism of a dated release of the Census, as an input of `build_cells`.

    Args:
        census_version: date of the release, e.g. "2025-01-30"; `cellxgene_census.get_census_version_directory` has all.
        organism: as the Census names it, e.g. "homo_sapiens"; "Homo sapiens" is the same.
        obs_value_filter: condition on obs, e.g. "is_primary_data == True and tissue_general == 'heart'".

    Raises:
        ValueError: where the version is no date, for "stable" and "latest" become other cells in time.
    """
    if not _VERSION.fullmatch(census_version):
        raise ValueError(
            f"census_version is {census_version!r}; expected the date of a release, e.g. '2025-01-30', so that the "
            "same cells are built again: cellxgene_census.get_census_version_directory() lists them"
        )
    name = "_".join(organism.lower().split())
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"organism is {organism!r}; expected its name in the Census, e.g. 'homo_sapiens'")
    return soma_input(f"{CENSUS}{census_version}/{name}", obs_value_filter=obs_value_filter)


def soma_input(location: str | Path, *, obs_value_filter: str | None = None) -> Path:
    """An experiment's folder or URI, as an input of `build_cells`; with the filter, of the cells that meet it alone."""
    if obs_value_filter is None:
        return Path(location)
    return Path(f"{location}{FILTER_MARK}{quote(obs_value_filter, safe=FILTER_TEXT)}")


def soma_address(path: Path) -> SomaAddress | None:
    """What `soma_input` or a user wrote; None where the path is no SOMA experiment. Nothing is opened."""
    location, mark, condition = str(path).partition(FILTER_MARK)
    obs_value_filter = unquote(condition) if mark else None
    scheme = _SCHEME.match(location)
    if scheme:
        rest = location[scheme.end() :]
        return SomaAddress(f"/{rest}" if scheme[1] == "file" else f"{scheme[1]}://{rest}", obs_value_filter)
    if location.startswith(CENSUS) or mark or is_tiledb_group(Path(location)):
        return SomaAddress(location, obs_value_filter)
    return None


def is_uri(path: Path) -> bool:
    """True where the path is no path of this machine's folders, and means the same wherever the process is."""
    return _SCHEME.match(str(path)) is not None or str(path).startswith(CENSUS)


def is_tiledb_group(folder: Path) -> bool:
    return (folder / "__group").is_dir() or (folder / "__tiledb_group.tdb").is_file()
