"""Names the one configuration of a folder that `load_dataset` reads after what the folder holds.

`datasets` 5 caches a local folder under its base name and its configurations' names alone, so two folders called
`cells`, or one that was built again, would be read as whichever came first. A name that changes with the content tells
them apart.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def configuration_name(files: Iterable[Path]) -> str:
    """`content-` and twelve hexadecimal digits of the SHA-256 of the files' bytes, in order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"content-{digest.hexdigest()[:12]}"
