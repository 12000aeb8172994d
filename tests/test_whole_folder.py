"""A folder appears whole or not at all."""

from pathlib import Path

import pytest

from omics_transformers.data_scripts.whole_folder import require_free, whole_folder


def test_the_old_folder_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "made"
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(FileExistsError, match="made exists: name another folder, or pass overwrite"):
        require_free(output, overwrite=False)
    require_free(output, overwrite=True)
    with pytest.raises(ZeroDivisionError), whole_folder(output) as partial:
        (partial / "data" / "new").touch()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["made"] and (output / "old").exists()
    with whole_folder(output) as partial:
        (partial / "data" / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"] and (output / "data" / "new").exists()
    assert not (output / "old").exists()
