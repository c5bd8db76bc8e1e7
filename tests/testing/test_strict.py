"""The strict backend refuses what a GPU refuses, and counts what a GPU would wait for."""

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
    "list index": lambda a: a[[0, 1]],
    "implicit conversion": lambda a: np.asarray(a),
    "numpy function": lambda a: np.exp(a),
    "where= in a reduction": lambda a: xp.sum(a, where=a > 1),
    "initial= in a method": lambda a: a.max(initial=0.0),
    "from_host twice": lambda a: STRICT.from_host(a),
    "to_host of a host array": lambda a: STRICT.to_host(np.ones(2)),
    "hash": lambda a: {a: 1},
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED)
def test_refused(attempt, device):
    with pytest.raises(TypeError):
        attempt(device)


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
