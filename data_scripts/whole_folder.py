"""A folder that appears when it is complete, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def require_free(output: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError where a folder would be replaced that may not be."""
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or pass overwrite (--overwrite) to replace it")


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder beside the one to make, with an empty `data` in it, which takes its place when all went well."""
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
