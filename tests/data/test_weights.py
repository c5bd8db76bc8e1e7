"""Files of weights: what is read, where it is looked for, and what is refused."""

import numpy as np
import pytest
import safetensors.numpy

from tinygen.data.weights import find_weights, read_weights
from tinygen.errors import DataError

ARRAYS = {"features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.array([0.5], np.float16)}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_are_read_by_name(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    np.savez(path, **ARRAYS) if suffix == ".npz" else safetensors.numpy.save_file(ARRAYS, path)
    read = read_weights(str(path))
    assert sorted(read) == sorted(ARRAYS)
    assert all(np.array_equal(read[key], ARRAYS[key]) and read[key].dtype == ARRAYS[key].dtype for key in ARRAYS)


def test_the_data_folders_are_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_weights("net") is None
    for folder, suffix in ((tmp_path / "cache" / "tinygen", ".npz"), (tmp_path, ".safetensors")):
        (folder / "net").mkdir(parents=True)
        expected = folder / "net" / f"net_imagenet{suffix}"
        expected.write_bytes(b"")
        assert find_weights("net") == expected
        expected.unlink()


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04torn")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    np.savez(tmp_path / "pickled.npz", bias=np.array([{}], object))
    (tmp_path / "net.pth").write_bytes(b"")
    (tmp_path / "folder.npz").mkdir()
    for name in ("torn.npz", "torn.safetensors", "pickled.npz", "net.pth", "none.npz", "folder.npz"):
        with pytest.raises(DataError, match=name) as refused:
            read_weights(tmp_path / name)
        assert "\n" not in str(refused.value) and refused.value.hint


def test_an_npy_under_another_name_is_told(tmp_path):
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match=r"one.npz: holds one array without a name"):
        read_weights(tmp_path / "one.npz")
