"""The strict backend refuses what a GPU refuses, and counts what a GPU would wait for."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tinygen import backend
from tinygen.testing.strict import STRICT, counting

xp = STRICT.xp


@pytest.fixture
def device():
    return STRICT.from_host(np.arange(6.0).reshape(2, 3))


REFUSED = {
    "host operand": lambda a: a + np.ones(3),
    "host operand on the left": lambda a: np.ones((2, 3)) * a,
    "host argument": lambda a: xp.maximum(a, np.ones(3)),
    "host value written": lambda a: a.__setitem__(0, np.ones(3)),
    "host index": lambda a: a[np.array([0])],
    "host index written": lambda a: a.__setitem__(np.array([0]), 1.0),
    "list of host arrays as index": lambda a: a[(0, np.array([1]))],
    "where of a Python bool": lambda a: xp.where(True, a, a),
    "where of a list": lambda a: xp.where([True, False, True], a, 0.0),
    "implicit conversion": lambda a: np.asarray(a),
    "numpy function": lambda a: np.exp(a),
    "where= in a reduction": lambda a: xp.sum(a, where=a > 1),
    "initial= in a method": lambda a: a.max(initial=0.0),
    "initial= in a sum": lambda a: a.sum(initial=1.0),
    "where= in a method": lambda a: a.mean(where=a > 1),
    "where= without an axis": lambda a: a.any(where=a > 1),
    "correction= of NumPy 2": lambda a: a.std(correction=1),
    "mean= of NumPy 2": lambda a: a.var(mean=a.mean()),
    "stable= of NumPy 2": lambda a: a.argsort(stable=True),
    "initial by its place": lambda a: a.max(0, None, False, 0.0),
    "item of a place": lambda a: a.item(0),
    "from_host twice": lambda a: STRICT.from_host(a),
    "to_host of a host array": lambda a: STRICT.to_host(np.ones(2)),
    "hash": lambda a: {a: 1},
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED)
def test_refused(attempt, device):
    with pytest.raises(TypeError):
        attempt(device)


def test_what_cupys_methods_take_is_taken(device):
    host = np.arange(6.0).reshape(2, 3)
    for actual, expected in (
        (device.sum(0, dtype="float32", keepdims=True), host.sum(0, dtype="float32", keepdims=True)),
        (device.std(axis=1, ddof=1), host.std(axis=1, ddof=1)), (device.max(1), host.max(1)), (device.real, host),
        (device.reshape(3, 2, order="F"), host.reshape(3, 2, order="F")), (device.transpose(1, 0), host.T),
        (device.clip(1, max=3), host.clip(1, 3)), (device.astype("int64", copy=False), host.astype("int64")),
        (device.mT, host.mT), (xp.where(device > 1, device, 0.0), np.where(host > 1, host, 0.0)),
    ):  # fmt: skip
        np.testing.assert_array_equal(STRICT.to_host(actual), expected)


INDICES = [[1, 0], [True, False], [], (slice(None), [2, 0]), ([0, 1], [1, 2])]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_lists_index_as_on_cupy_which_moves_them(device, index):
    host = np.arange(6.0).reshape(2, 3)
    lists = sum(isinstance(item, list) for item in (index if isinstance(index, tuple) else (index,)))
    with counting() as counts:
        part = device[index]
        device[index] = 7.0
    assert counts.from_host == 2 * lists and counts.synchronizations == 2 * (str(index) == "[True, False]")
    np.testing.assert_array_equal(STRICT.to_host(part), host[index])
    host[index] = 7.0
    np.testing.assert_array_equal(STRICT.to_host(device), host)


def test_the_strict_backend_needs_no_hypothesis():
    code = """
        import sys
        sys.modules["hypothesis"] = None  # an import of it fails
        from tinygen import backend
        from tinygen.testing import close
        assert backend.get("strict").name == "strict"
        try:
            from tinygen.testing import Row
        except ImportError as error:
            assert "hypothesis" in str(error)
        else:
            raise AssertionError
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_kit_offers_what_it_names():
    import tinygen.testing as kit

    assert all(hasattr(kit, name) for name in kit.__all__)
    with pytest.raises(AttributeError, match=r"module tinygen\.testing has no attribute cheque"):
        _ = kit.cheque


def test_names_that_cupy_lacks(device):
    for name in ("errstate", "float128", "bitwise_invert_", "testing"):
        with pytest.raises(AttributeError, match=f"cupy has no {name}$"):
            getattr(xp, name)
    with pytest.raises(AttributeError, match=r"cupy has no linalg\.cond_"):
        _ = xp.linalg.cond_
    with pytest.raises(AttributeError, match=r"cupy.ndarray has no attribute newbyteorder"):
        _ = device.newbyteorder


def test_results_stay_on_the_device(device):
    results = (
        device.sum(), device[0, 0], xp.max(device), -device, device @ device.T, 2 / (device + 1), device > 1,
        xp.linalg.norm(device), xp.split(device, 3, 1)[0], xp.allclose(device, device), device.mean(0),
    )  # fmt: skip
    for value in results:
        assert isinstance(value, STRICT.array_type), value
    assert xp.float32 is np.float32
    device += 1
    assert STRICT.to_host(device)[0, 0] == 1


def test_memory_is_apart_from_the_host():
    host = np.zeros(2)
    a = STRICT.from_host(host)
    host[0] = 1
    out = STRICT.to_host(a)
    out[1] = 1
    assert STRICT.to_host(a).tolist() == [0, 0]


def test_counts(device):
    with counting() as counts:
        _ = (device * 2).sum(0)
        assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)
        float(device[0, 0]), bool(device[0, 1]), device[1, 1].item()
        assert (counts.to_host, counts.synchronizations) == (3, 3)
        device[device > 2]
        assert counts.synchronizations == 4
        xp.asarray(np.ones(2))
        backend.get("strict").from_host(np.ones(2))
        assert counts.from_host == 2


def test_nothing_warns():
    zero = STRICT.from_host(np.zeros(2))
    assert np.isnan(STRICT.to_host(zero / zero)).all()
    assert np.isneginf(STRICT.to_host(xp.log(zero))).all()
