"""Vectors read past HDF5 equal those read through it, from several threads, and damage is named."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts.hdf5_vectors import Hdf5Vector

STORAGES = {
    "gzip": {"compression": "gzip", "chunks": (70,)},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True, "chunks": (70,)},
    "lzf": {"compression": "lzf", "chunks": (70,)},
    "checksum": {"compression": "gzip", "fletcher32": True, "chunks": (70,)},
    "contiguous": {},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors.h5"
    values = np.random.default_rng(0).integers(0, 1000, 1000)
    with h5py.File(path, "w") as opened:
        for dtype in ("f4", "i8", ">i4"):
            for name, storage in STORAGES.items():
                opened.create_dataset(f"{dtype}/{name}", data=values.astype(dtype), **storage)
    with h5py.File(path, "r") as opened:
        yield opened


@pytest.mark.parametrize("dtype", ["f4", "i8", ">i4"])
@pytest.mark.parametrize("storage", STORAGES)
@given(start=st.integers(0, 1000), length=st.integers(0, 400))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slices_equal_those_of_h5py(file, dtype, storage, start, length):
    dataset = file[f"{dtype}/{storage}"]
    stop = min(start + length, 1000)
    vector = Hdf5Vector(dataset, file.filename)
    np.testing.assert_array_equal(vector.read(start, stop), dataset[start:stop])
    vector.close()


def test_threads_read_side_by_side(file):
    vector = Hdf5Vector(file["f4/gzip"], file.filename)
    with ThreadPoolExecutor(4) as pool:
        slices = list(pool.map(lambda start: vector.read(start, start + 90), range(0, 900, 10)))
    for start, values in zip(range(0, 900, 10), slices, strict=True):
        np.testing.assert_array_equal(values, file["f4/gzip"][start : start + 90])
    vector.close()


def test_chunks_never_written_give_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "sparse.h5", "w") as file:
        file.create_dataset("x", (300,), "i4", chunks=(100,), compression="gzip", fillvalue=7)[100:200] = 1
        vector = Hdf5Vector(file["x"], tmp_path / "sparse.h5")
        assert vector.read(90, 210).tolist() == [7] * 10 + [1] * 100 + [7] * 10
        vector.close()


def test_a_damaged_chunk_is_named(tmp_path):
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1000), chunks=(1000,), compression="gzip")
        place = file["x"].id.get_chunk_info(0)
    with path.open("r+b") as damaged:
        damaged.seek(place.byte_offset)
        damaged.write(b"\0" * 50)
    with h5py.File(path, "r") as file:
        vector = Hdf5Vector(file["x"], path)
        with pytest.raises(ValueError, match=r"damaged\.h5: /x cannot be read between 0 and 10 .*write it again"):
            vector.read(0, 10)
        vector.close()


def test_what_is_no_vector_of_numbers_is_refused(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["x"] = np.zeros((2, 2))
        with pytest.raises(ValueError, match="should be a vector of numbers"):
            Hdf5Vector(file["x"], tmp_path / "table.h5")
