"""Tensors: making them, reading them, writing into them."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import backend
from tinygen import functional as F
from tinygen.autograd import detect_anomaly
from tinygen.errors import AnomalyError
from tinygen.testing import close


def test_python_numbers_become_float32_and_arrays_keep_their_dtype():
    assert tinygen.tensor([1.5, 2]).dtype == np.float32
    assert tinygen.tensor([[1, 2]]).dtype == np.int64
    assert tinygen.tensor([True]).dtype == bool
    assert tinygen.tensor(np.ones(2)).dtype == np.float64
    assert tinygen.tensor(1.0, dtype="float64").shape == ()
    with pytest.raises(TypeError, match="regular nesting"):
        tinygen.tensor([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="regular nesting"):
        tinygen.tensor(["a"])


def test_tensor_copies_and_numpy_copies():
    source = np.zeros(3, np.float32)
    x = tinygen.tensor(source)
    source[0] = 1
    out = x.numpy()
    out[1] = 1
    close(x, np.zeros(3))
    assert x.backend is backend.current()


def test_what_is_no_number_makes_no_tensor():
    for text in ("a", None, {}, 1j, object()):
        with pytest.raises(TypeError, match=r"^tensor: expected a number, a nested list of them or an array, got"):
            tinygen.tensor(text)
    for nested in ([1j], ["a"], [None], [[1.0], [2.0, 3.0]]):
        with pytest.raises(TypeError, match=r"^tensor: expected real numbers in a regular nesting, got"):
            tinygen.tensor(nested)
    for array in (np.array(["a"]), np.array([None]), np.ones(2, complex), np.complex64(1), np.array("2020", "M8[D]")):
        with pytest.raises(TypeError, match=r"^tensor: expected real numbers or truth values, got"):
            tinygen.tensor(array)
    with pytest.raises(TypeError, match=r"^tensor: expected real numbers or truth values, got complex64"):
        tinygen.tensor([1.0], dtype="complex64")


def test_a_tensor_is_no_numpy_array_unasked():
    x = tinygen.ones(2)
    for convert in (np.asarray, np.array, lambda x: np.asarray(x, "float64"), lambda x: np.concatenate([x, x])):
        with pytest.raises(TypeError, match=r"use \.numpy\(\)"):
            convert(x)


def test_data_and_grad_refuse_what_would_break_later():
    x = tinygen.ones(2, requires_grad=True)
    array = backend.current().from_host
    with pytest.raises(TypeError, match=r"^data: a tensor that requires a gradient needs a floating-point array"):
        x.data = array(np.arange(2))
    for value in (3.0, [1.0, 2.0], x, np.float32(1)):
        with pytest.raises(TypeError, match=r"^data: expected an array, got \w+; use tensor"):
            x.data = value
    close(x, np.ones(2))
    x.detach().data = array(np.arange(2))  # one that requires no gradient may hold whole numbers
    for value in (array(np.ones(2, np.float32)), 1.0):
        with pytest.raises(TypeError, match=r"^grad: expected a tensor or None, got"):
            x.grad = value
    with backend.using("numpy" if x.backend.name != "numpy" else "strict"):
        elsewhere = tinygen.ones(2)
    for value in (tinygen.ones(3), tinygen.ones((2, 1)), tinygen.tensor(np.ones(2)), elsewhere):
        with pytest.raises(ValueError, match=rf"^grad: expected \(2,\) float32 on {x.backend.name} as the tensor, got"):
            x.grad = value
    assert x.grad is None
    x.grad = tinygen.ones(2)
    x.grad = None


def test_integers_refuse_gradients():
    with pytest.raises(TypeError, match="only floating-point tensors have gradients, this one is int64"):
        tinygen.tensor([1, 2], requires_grad=True)
    with pytest.raises(ValueError, match="is a result of exp; detach"):
        F.exp(tinygen.ones(2, requires_grad=True)).requires_grad_()


@given(st.sampled_from(["+", "-", "*", "/", "**"]), st.booleans(), st.floats(0.5, 2, width=32))
def test_numbers_keep_float32(sign, reflected, number):
    x = tinygen.ones((2,), requires_grad=True)
    y = eval(f"number {sign} x" if reflected else f"x {sign} number")
    assert y.dtype == np.float32
    close(y, np.full(2, eval(f"number {sign} 1.0" if reflected else f"1.0 {sign} number")), rtol=1e-6)
    y.sum().backward()
    assert x.grad.dtype == np.float32


KINDS = [np.float64, np.float32, np.float16, np.longdouble, np.int64, np.uint8, np.bool_]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@given(st.sampled_from(BINARY), st.booleans(), st.sampled_from(KINDS), st.sampled_from(["float32", "float64"]))
def test_a_numpy_scalar_is_a_number(operation, reflected, kind, dtype):
    """It takes the tensor's dtype, and gives what the Python number gives."""
    values, gradients = [], []
    for number in (kind(2), 1.0 if kind is np.bool_ else 2.0):
        x = tinygen.tensor(np.array([1.5, 0.5], dtype), requires_grad=True)
        y = operation(number, x) if reflected else operation(x, number)
        y.sum().backward()
        values.append(y)
        gradients.append(x.grad)
    for scalar, plain in (values, gradients):
        assert isinstance(scalar, tinygen.Tensor)
        assert scalar.dtype == dtype
        close(scalar, plain.numpy(), rtol=1e-6)


def test_scalars_that_are_no_numbers_are_refused():
    x = tinygen.ones(2)
    for scalar in (np.complex64(1), np.str_("a"), np.datetime64(1, "s"), 1j):
        with pytest.raises(TypeError, match="multiply: expected tensors, arrays or numbers, got"):
            F.multiply(x, scalar)


def test_arrays_and_tensors_mix_either_way():
    a = backend.current().from_host(np.array([1.0, 2.0]))
    x = tinygen.tensor(np.array([3.0, 4.0]), requires_grad=True)
    for y in (a * x, x * a):
        assert isinstance(y, tinygen.Tensor)
        close(y, np.array([3.0, 8.0]))
    close(a - x, np.array([-2.0, -2.0]))
    close(a / x, np.array([1 / 3, 0.5]))


def test_comparisons_have_no_gradient():
    x = tinygen.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for y, expected in ((x > 2, [0, 0, 1]), (x <= 2.0, [1, 1, 0]), (x == 2, [0, 1, 0]), (~(x != 2), [0, 1, 0])):
        assert not y.requires_grad
        close(y, np.array(expected, bool))
    assert (x == None) is False  # noqa: E711
    assert len({x: 1, x.detach(): 2}) == 2  # hashed by identity


def test_reading():
    x = tinygen.tensor([[1.0, 2.0]], requires_grad=True)
    assert (x.shape, x.ndim, x.numel(), len(x)) == ((1, 2), 2, 2, 1)
    assert [float(v) for v in x[0]] == [1, 2]
    assert (int(x[0, 1]), bool(x[0, 0])) == (2, True)
    with pytest.raises(ValueError, match=r"expected one element, got shape \(1, 2\)"):
        x.item()
    with pytest.raises(TypeError, match="without dimensions"):
        len(x.sum())
    assert repr(x).startswith("tensor([[1., 2.]]") and "requires_grad" in repr(x)
    assert "node=exp" in repr(x.exp())


def test_a_write_into_a_saved_array_is_caught_at_backward():
    x = tinygen.tensor([1.0, 2.0], requires_grad=True)
    for write in (
        lambda h: h.__setitem__(0, 9.0),
        lambda h: h.reshape(2, 1).__setitem__((0, 0), 9.0),  # through a view of the same memory
        lambda h: h.detach().__setitem__(0, 9.0),
        lambda h: setattr(h, "data", h.data * 2),
    ):
        hidden = x * 2.0
        loss = (hidden * hidden).sum()
        with tinygen.no_grad():
            write(hidden)
        with pytest.raises(
            RuntimeError, match=r"multiply: an array of shape \(2,\) that its gradient needs was written"
        ):
            loss.backward()
    y = F.exp(x)
    loss = y.sum()
    with tinygen.no_grad():
        y[0] = 0.0
    with pytest.raises(RuntimeError, match="exp: an array"):
        loss.backward()
    y = x * 2.0  # what nobody saved may be written
    loss = (y + 1.0).sum()
    with tinygen.no_grad():
        y[0] = 0.0
    loss.backward()
    close(x.grad, np.array([2.0, 2.0]))


def test_setitem_is_refused_where_a_gradient_would_be_lost():
    x = tinygen.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="use where"):
        x[0] = 2.0
    y = tinygen.zeros((2, 2))
    y[:, 1] = tinygen.ones(2)
    y[tinygen.tensor([0]), 0] = 5.0
    close(y, np.array([[5.0, 1.0], [0.0, 1.0]]))


def test_anomaly_names_the_first_operation_forward():
    x = tinygen.tensor([1.0, 0.0], requires_grad=True)
    with detect_anomaly(), backend.current().quiet():
        with pytest.raises(
            AnomalyError, match=r"log makes a number that is not finite out of \(\(2,\)\) at .*test_tensor"
        ):
            F.exp(F.log(x))
        y = F.sqrt(x).sum()
        with pytest.raises(AnomalyError, match=r"the gradient of sqrt is not finite.*test_tensor"):
            y.backward()
        mask = x.data == 0
        F.softmax(F.masked_fill(x, mask, -np.inf), 0)  # an infinity that was asked for is none of its business
        x.grad = None
        z = (x * x).sum()
        x.data[0] = 5.0  # a write that no counter sees
        with pytest.raises(RuntimeError, match="was written to"):
            z.backward()
