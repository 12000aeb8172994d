"""The folder that a build of rank tokens leaves: nothing under its name until it is whole.

Work goes to OUTPUT.partial beside it: `folder/` becomes the output by one rename, `progress/` records every finished
shard, `fingerprint.json` says of which inputs and settings. The same build started again goes on from there; another
one refuses. Shards grow in `unfinished-*/`, a new one for each start: a worker of an earlier start that still runs
somewhere finds its folder gone, and cannot put its shard among those of this one. Hub layout: https://huggingface.co/docs/hub/datasets-manual-configuration.
"""

import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

CARD, REPORT, DROPPED_CELLS = "README.md", "report.json", "dropped_cells.tsv"
TOKEN_DICTIONARY, GENE_MEDIANS, GENE_SYMBOLS = "token_dictionary.json", "gene_medians.json", "gene_symbols.json"


class RankTokenFolder:
    """Stages a build; `publish` makes it appear. Use as a context manager: it locks the staging folder."""

    def __init__(self, output: str | Path, fingerprint: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.output = Path(os.path.abspath(output))  # noqa: PTH100 - resolve() would follow a link that is to be replaced
        self.partial = self.output.with_name(self.output.name + ".partial")
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.overwrite = overwrite
        self.unfinished = self.partial / f"unfinished-{uuid.uuid4().hex}"  # where shards are written before they count
        self._lock = FileLock(self.partial / "lock", timeout=0)

    def __enter__(self) -> "RankTokenFolder":
        self._refuse_existing_output()
        self.partial.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"another process is building {self.output}: wait for it or choose another output"
            ) from error
        try:
            self._resume_or_start()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self._lock.release()
        if not any(self._progress.glob("*")):  # nothing worth resuming
            shutil.rmtree(self.partial, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.partial / "folder"

    @property
    def _progress(self) -> Path:
        return self.partial / "progress"

    def shard_path(self, number: int, n_shards: int) -> Path:
        return self._folder / "data" / f"train-{number:05d}-of-{n_shards:05d}.parquet"

    def finished_shard(self, path: Path) -> dict[str, Any] | None:
        """The record of a finished shard, or None."""
        return finished_shard(path)

    def keep(self, name: str, content: Any) -> None:
        """Keeps a JSON value for a resumed build."""
        write_json(self._progress / f"{name}.json", content)

    def kept(self, name: str) -> Any:
        """What `keep` kept, or None."""
        path = self._progress / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def write_json(self, name: str, content: Any) -> None:
        write_json(self._folder / name, content, indent=1 if name == REPORT else None)

    def write_text(self, name: str, text: str) -> None:
        _replace_text(self._folder / name, text)

    def write_dropped_cells(self, records: list[Path]) -> None:
        """A table (input, cell_id, reason) of every cell left out, from the records of the shards."""
        path = self._folder / DROPPED_CELLS
        with path.with_suffix(".unfinished").open("w", encoding="utf-8") as table:
            table.write("input\tcell_id\treason\n")
            for shard in records:
                record = json.loads(_record_path(shard).read_text())
                for reason, cell_ids in record["dropped_cells"].items():
                    table.writelines(f"{record['input']}\t{cell_id}\t{reason}\n" for cell_id in cell_ids)
        path.with_suffix(".unfinished").replace(path)

    def publish(self) -> None:
        """Makes the folder appear under its name."""
        if self.output.exists():
            replaced = self.partial / "replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            self.output.replace(replaced)
        self._folder.replace(self.output)
        shutil.rmtree(self._progress)

    def discard(self) -> None:
        """Drops what was staged: there is nothing to resume."""
        shutil.rmtree(self._progress)

    def _refuse_existing_output(self) -> None:
        if not self.output.exists() or (self.output.is_dir() and not any(self.output.iterdir())):
            return
        ours = all((self.output / name).is_file() for name in (CARD, REPORT, TOKEN_DICTIONARY))
        if not self.overwrite:
            raise FileExistsError(
                f"{self.output} exists{' and holds a build' if ours else ''}: choose another output or overwrite"
            )
        if not ours:
            raise FileExistsError(
                f"{self.output} exists and was not made by this command ({REPORT} or {TOKEN_DICTIONARY} is missing): "
                "it is not overwritten; choose another output"
            )

    def _resume_or_start(self) -> None:
        path = self.partial / "fingerprint.json"
        earlier = json.loads(path.read_text()) if path.is_file() else None
        if earlier != self.fingerprint and earlier is not None and not self.overwrite:
            raise ValueError(
                f"{self.partial} holds an unfinished build that differs in {_differences(earlier, self.fingerprint)}: "
                "repeat that build to finish it, overwrite to discard it, or choose another output"
            )
        if earlier != self.fingerprint:
            for folder in (self._folder, self._progress):
                shutil.rmtree(folder, ignore_errors=True)
        for left in self.partial.glob("unfinished-*"):
            shutil.rmtree(left, ignore_errors=True)
        self.unfinished.mkdir()
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        self._progress.mkdir(exist_ok=True)
        write_json(path, self.fingerprint)
        n_finished = len(list(self._progress.glob("train-*.json")))
        if n_finished:
            logger.info("resuming %s: %d shards are finished", self.partial, n_finished)


def record_shard(path: Path, record: dict[str, Any], unfinished: Path | None = None) -> dict[str, Any]:
    """Notes beside the staged folder that the shard at `path` is whole.

    `unfinished` is the file, for the moment before the record is whole, of a writer who may not be the only one.
    """
    record |= {"bytes": path.stat().st_size}
    if unfinished is None:
        write_json(_record_path(path), record)
    else:
        unfinished.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(_record_path(path))
    return record


def finished_shard(path: Path) -> dict[str, Any] | None:
    """The record of a finished shard, or None."""
    record_path = _record_path(path)
    if not record_path.is_file() or not path.is_file():
        return None
    record: dict[str, Any] = json.loads(record_path.read_text())
    return record if path.stat().st_size == record["bytes"] else None


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Writes JSON whole or not at all."""
    _replace_text(path, json.dumps(content, indent=indent, ensure_ascii=False))


def _replace_text(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _record_path(shard: Path) -> Path:
    return shard.parents[2] / "progress" / f"{shard.stem}.json"


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = sorted(name for name in {*earlier, *now} if earlier.get(name) != now.get(name))
    return ", ".join(names)
