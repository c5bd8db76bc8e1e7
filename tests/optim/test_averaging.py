"""The running average of a module, against its closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend, optim
from tinygen.nn import Buffer, Module, Parameter
from tinygen.testing import close


def place(array):
    return backend.current().from_host(np.array(array))


def parameter(values):
    return Parameter(place(values))


def module(**tensors):
    out = Module()
    for name, value in tensors.items():
        setattr(out, name, value)
    return out


@given(decay=st.floats(0, 0.99), n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_ema_is_its_closed_form(decay, n, seed):
    values = np.random.default_rng(seed).normal(size=(n + 1, 4))
    source = module(w=parameter(values[0]), seen=Buffer(place(np.zeros(1))))
    averaged = module(w=parameter(np.zeros(4)), seen=Buffer(place(np.zeros(1))))
    ema = optim.EMA(averaged, source, decay)
    for value in values[1:]:
        source.w.data = source.w.backend.from_host(value)
        source.seen.data = source.seen.data + 1
        ema.update()
    weights = [(1 - decay) * decay ** (n - k) for k in range(1, n + 1)]
    close(averaged.w, decay**n * values[0] + np.tensordot(weights, values[1:], 1), rtol=1e-9)
    close(averaged.seen, np.array([float(n)]))
    assert not averaged.w.requires_grad
    with pytest.raises(ValueError, match="decay must be in"):
        optim.EMA(averaged, source, 1.0)


def test_ema_refuses_modules_that_are_not_built_alike():
    one, two = parameter([1.0]), parameter([2.0])
    with pytest.raises(ValueError, match="EMA: averaged and source differ in b; build them alike"):
        optim.EMA(module(a=one, b=one), module(a=two, b=parameter([3.0])), 0.5)  # one tensor for two
    with pytest.raises(ValueError, match="EMA: averaged and source differ in a, c"):
        optim.EMA(module(a=one), module(c=two), 0.5)
    with pytest.raises(ValueError, match="EMA: averaged and source share a; build a second module"):
        optim.EMA(module(a=one), module(a=one), 0.5)
    with pytest.raises(ValueError, match=r"a is \(2,\), the module has \(1,\)"):
        optim.EMA(module(a=one), module(a=parameter([1.0, 2.0])), 0.5)
    assert one.requires_grad and one.item() == 1.0


def test_ema_takes_parameters_in_another_order_and_layout():
    a, b = np.arange(6.0).reshape(2, 3), np.ones((0, 2))
    source = module(b=parameter(b), a=parameter(np.asfortranarray(a)))
    ema = optim.EMA(module(a=parameter(np.zeros((2, 3))), b=parameter(b)), source, 0.75)
    source.a.data = place(a.T.copy().T + 4)
    ema.update()
    close(ema.averaged.a, a + 1)
    assert ema.averaged.b.shape == (0, 2)
