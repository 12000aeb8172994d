"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")]
Symbols = Annotated[
    Path | None, typer.Option(help="JSON (.gz too) of symbol: gene id, for files that know symbols only.")
]
Offsets = Annotated[
    str | None,
    typer.Option(
        help='JSON of contig: first coordinate, for pieces of contigs, e.g. {"22": 20000000}; 0 for a piece from the '
        "contig's beginning."
    ),
]
CacheFolder = Annotated[Path | None, typer.Option(help="Keep the decompressed genome here for the next time.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda:0, ...; the best by default.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run a repository's code.")]


def parse_json(text: str | None) -> Any:
    """The value of an option that takes JSON."""
    return None if text is None else json.loads(text)


def name_and_number(setting: str) -> tuple[str, Any]:
    """Of an option `--set name=number`."""
    name, _, value = setting.partition("=")
    try:
        return name, float(value) if "." in value or "e" in value else int(value)
    except ValueError:
        raise ValueError(f"--set {setting}: expected name=number, e.g. n_genes=200") from None
