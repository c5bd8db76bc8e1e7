"""Version counters: a write into what a graph saved is noticed, and a write elsewhere is not mistaken for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import backend
from tinygen import functional as F
from tinygen.autograd import detect_anomaly
from tinygen.testing import close


def integers(*values):
    return tinygen.tensor(np.array(values))


def index_operations():
    """Operation by name as it is told in the error, function of x and the index, the index."""
    mask = tinygen.tensor(np.array([True, False, True]))
    return [
        ("get_item", lambda x, i: x[i], integers(0, 2, 0)),
        ("get_item", lambda x, i: x[:, i], integers(1, 0)),
        ("get_item", lambda x, i: x[i, None, i - 1], integers(1, 2)),
        ("get_item", lambda x, i: x[i], mask),
        ("get_item", lambda x, i: x.index_select(0, i), integers(1, 0)),
        ("gather", lambda x, i: x.gather(1, i), integers([0], [1], [2])),
        ("gather", lambda x, i: x.gather(-1, i.T), integers([0, 1, 2], [2, 1, 0])),
        ("where", lambda x, i: x.masked_fill(i, 2.0), mask),
    ]


@pytest.mark.parametrize("case", range(8))
def test_a_write_into_an_index_is_caught_at_backward(case):
    name, operation, index = index_operations()[case]
    x = tinygen.tensor(np.arange(9.0).reshape(3, 3), requires_grad=True)
    expected = tinygen.grad(operation(x, index).sum(), x).numpy()
    y = (operation(x, index) * 1.0).sum()
    index[0] = index[1]
    with pytest.raises(RuntimeError, match=f"^{name}: an array of shape .* was written to after the forward pass"):
        y.backward()
    index = index_operations()[case][2]
    operation(x, index).sum().backward()
    close(x.grad, expected)


@pytest.mark.parametrize("case", [0, 5])
def test_a_write_between_first_and_second_backward_is_caught_too(case):
    _, operation, index = index_operations()[case]
    x = tinygen.tensor(np.arange(9.0).reshape(3, 3), requires_grad=True)
    (g,) = tinygen.grad((operation(x, index) ** 2).sum(), [x], create_graph=True)
    index[0] = index[1]
    with pytest.raises(RuntimeError, match=r"^(put_item|scatter_add): an array of shape"):
        tinygen.grad((g * g).sum(), x)


def test_a_write_into_a_bare_index_array_is_found_by_detect_anomaly():
    x = tinygen.ones((3, 2), requires_grad=True)
    index = backend.current().from_host(np.array([0, 2]))
    with detect_anomaly():
        y = x[index].sum()
        index[0] = 1
        with pytest.raises(RuntimeError, match="get_item: an array"):
            y.backward()


def test_an_index_on_another_backend_is_refused():
    x = tinygen.ones((3, 2))
    with backend.using("numpy" if x.backend.name != "numpy" else "strict"):
        index = integers(0, 1)
    with pytest.raises(tinygen.errors.BackendError, match=r"^get_item: its inputs are on"):
        x[index]


COPIES = [
    lambda x: x.T.reshape(-1),
    lambda x: x[:, ::2].reshape(-1),
    lambda x: x[True],
    lambda x: x[None, True, 1:],
    lambda x: x[integers(0, 1)],
    lambda x: x[[0, 1]],
    lambda x: x[(0, 1), :],
    lambda x: x.expand(2, 2, 3).reshape(12),
]
VIEWS = [
    lambda x: x.reshape(-1),
    lambda x: x.T,
    lambda x: x.T.T.reshape(6),
    lambda x: x.T.unsqueeze(0),
    lambda x: x[:, ::2].unsqueeze(-1),
    lambda x: x[1:],
    lambda x: x[0],
    lambda x: x[0, 1],
    lambda x: x[np.int64(0)],
    lambda x: x[np.int64(0), np.int32(1)],
    lambda x: x[..., None, 0],
    lambda x: x.expand(2, 2, 3),
    lambda x: x.T[:, 0].expand(2, 3),
    lambda x: F.split(x, 1)[0],
    lambda x: x.detach(),
]


@given(st.sampled_from(COPIES))
def test_a_copy_counts_its_own_writes(copy):
    x = tinygen.tensor(np.arange(6.0).reshape(2, 3))
    w = tinygen.tensor(1.0, requires_grad=True, dtype="float64")
    y = copy(x)
    loss = (y * w).sum()
    before = y.numpy()
    x[0, 0], x[0, 1], x[1, 2] = 100.0, 100.0, 100.0
    assert np.array_equal(y.numpy(), before)
    loss.backward()
    close(w.grad, before.sum())


@given(st.sampled_from(VIEWS))
def test_a_view_counts_the_writes_into_its_memory(view):
    x = tinygen.tensor(np.arange(6.0).reshape(2, 3))
    w = tinygen.tensor(1.0, requires_grad=True, dtype="float64")
    y = view(x)
    loss = (y * w).sum()
    before = y.numpy()
    x[:, :] = x + 1.0
    assert np.array_equal(y.numpy(), before + 1)
    with pytest.raises(RuntimeError, match="multiply: an array"):
        loss.backward()


def test_new_data_are_a_write_for_the_tensor_alone():
    x, w = tinygen.tensor([1.0, 2.0]), tinygen.tensor([3.0, 4.0], requires_grad=True)
    view = x.detach()
    through_x, through_view = (x * w).sum(), (view * w).sum()
    x.data = x.data * 10
    through_view.backward()
    close(w.grad, np.array([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="multiply: an array"):
        through_x.backward()
    again = (view * w).sum()
    x[0] = 5.0
    again.backward()
    close(w.grad, np.array([2.0, 4.0]))
