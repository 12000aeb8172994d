"""Fixtures that several test files share: the folder of real data, and the device."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data: OMICS_TRANSFORMERS_DATA, or ../shared/data beside the repository; skips without it."""
    folder = Path(os.environ.get("OMICS_TRANSFORMERS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set OMICS_TRANSFORMERS_DATA to the folder that holds it")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each test that takes it runs on the CPU, and with `-m gpu` on a CUDA device too."""
    return request.param
