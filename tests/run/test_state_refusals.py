"""State that cannot be kept, or does not fit what it is put back into, is refused by name."""

import collections
import contextlib
import dataclasses
import functools
import random
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run.test_state import Phase, Thing, saved
from tinygen import backend, functional, nn, optim, tensor
from tinygen.autograd import Tensor
from tinygen.errors import CheckpointError, PluginError
from tinygen.random import Stream
from tinygen.run.state import capture, restore

pytestmark = pytest.mark.usefixtures("backend")


def test_every_misfit_is_named_in_one_line():
    def make(**changed):
        stream, linear = Stream(0), nn.Linear(2, 3, random=Stream(0))
        usual = {
            "w": tensor([1.0, 2.0]), "v": tensor([1]), "n": np.float32(1), "linear": linear, "inner": Thing(x=1),
            "stream": stream, "layers": [functional.relu], "optimizer": optim.SGD(linear.parameters(), lr=1.0),
        }  # fmt: skip
        return Thing(**usual | changed)

    before = make(old=1)
    other = nn.Linear(4, 3, random=Stream(0))
    after = make(
        w=tensor([1.0]), v=tensor([1.0]), n=np.float64(1), linear=other, inner=None, stream=3, layers=[], new=1,
        optimizer=optim.SGD([other.weight], lr=1.0),
    )  # fmt: skip
    with pytest.raises(CheckpointError) as caught:
        restore(after, *saved(before))
    assert "\n" not in caught.value.message
    for said in (
        "old: not expected", "new: missing", "w: saved with shape (2,), expected (1,)",
        "v: saved as int64, expected float32", "n: saved as float32, expected float64",
        "linear.weight: saved with shape (3, 2), expected (3, 4)", "inner: saved from an object, here is a NoneType",
        "stream: saved from an optimizer or Stream, here is a int", "layers[0]: missing here",
        "optimizer.steps: saved with shape (2,), expected (1,)",
    ):  # fmt: skip
        assert said in caught.value.message


def test_an_optimizer_that_refuses_a_state_is_named():
    def make(shape, steps):
        weight = nn.Parameter(backend.current().xp.ones(shape, "float32"))
        optimizer = optim.Adam([weight])
        for _ in range(steps):
            weight.grad = tensor(weight)
            optimizer.step()
        return Thing(optimizer=optimizer)

    with pytest.raises(CheckpointError, match="optimizer: Adam: m of parameter 0"):
        restore(make(3, 0), *saved(make(2, 1)))


def test_arrays_that_the_file_lacks_are_named():
    arrays, table = saved(Thing(a=tensor([1.0]), b=tensor([1.0])))
    with pytest.raises(CheckpointError, match="b: its array is missing"):
        restore(Thing(a=tensor([1.0]), b=tensor([1.0])), {"a": arrays["a"]}, table)
    with pytest.raises(CheckpointError, match="b: missing"):
        restore(Thing(a=tensor([1.0]), b=1), arrays, {name: value for name, value in table.items() if name != "b"})


def full():
    """A thing with an entry of each kind in its table."""
    weight = tensor([[1.0, 2.0]], requires_grad=True)
    return Thing(
        weight=weight, again=weight, raw=weight.data, n=np.int8(1),
        turned=backend.current().from_host(np.ones((2, 3)).T),
        items=[1, (2, None)], table={"a": 1.5}, inner=Thing(x="y"), stream=Stream(0), layers=[functional.relu],
        phase=Phase.WARM, array=backend.current().from_host(np.arange(2)),
    )  # fmt: skip


ENTRIES = sorted(capture(full())[1])
WRONG = [[], [[1]], {}, {"kind": "fill"}, {"kind": "_host"}, {"kind": 3}, {"kind": None}, {"kind": ["tensor"]}]
WRONG_FIELDS = [None, "nowhere", -1, 10**12, 1.5, True, [], [[1]], [0, 0], [None], ["a", 1], {"a": 1}]


@given(st.sampled_from(ENTRIES), st.data())
def test_a_malformed_table_is_one_line_whatever_it_says(path, data):
    arrays, table = saved(full())
    entry = table[path]
    if isinstance(entry, dict) and len(entry) > 1 and data.draw(st.booleans()):
        field = data.draw(st.sampled_from(sorted(entry.keys() - {"kind"})))
        missing = data.draw(st.booleans())
        table[path] = {name: value for name, value in entry.items() if name != field} | (
            {} if missing else {field: data.draw(st.sampled_from(WRONG_FIELDS))}
        )
    elif isinstance(entry, dict) and data.draw(st.booleans()):
        table[path] = {
            **entry,
            "kind": data.draw(st.sampled_from(["tensor", "same", "list", "state", "member", "dict"])),
        }
    else:
        table[path] = data.draw(st.sampled_from(WRONG))
    with contextlib.suppress(CheckpointError):  # anything else is a traceback for the user
        restore(full(), arrays, table)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_an_entry_that_means_nothing_is_named(wrong):
    arrays, table = saved(full())
    table["inner"] = wrong
    with pytest.raises(CheckpointError, match=r"inner: kept as .*, which means nothing"):
        restore(full(), arrays, table)


def test_an_array_that_cannot_take_a_gradient_is_named():
    def make(dtype, requires_grad):
        return Thing(w=Tensor(backend.current().from_host(np.ones(2, dtype)), requires_grad))

    arrays, table = saved(make("int64", False))
    with pytest.raises(CheckpointError, match="w: saved as int64, expected float32"):
        restore(make("float32", True), arrays, table)
    with pytest.raises(CheckpointError, match="w: int64 that requires a gradient"):
        restore(make("int64", False), arrays, table | {"w": {"kind": "tensor", "requires_grad": True}})


@dataclasses.dataclass(frozen=True)
class Frozen:
    weight: object


class Slotted:
    __slots__ = ("__dict__", "a")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "set"), (collections.deque([1]), "deque"), (random.Random(0), "Random"), (b"x", "bytes"),
        (np.random.default_rng(0), "Generator"), (threading.Lock(), "lock"), (1j, "complex"), (iter([]), "iterator"),
        (np.zeros(2, complex), "array of complex128"), (np.array(["a"]), "array of <U1"), (Slotted(), "Slotted"),
        (collections.OrderedDict(), "OrderedDict"), (collections.namedtuple("Pair", "a b")(1, 2), "Pair"),
        (Frozen(Stream(0)), "Frozen"), (Frozen(nn.ReLU()), "Frozen"), (Frozen(np.zeros(1)), "Frozen"),
        ({(1, 2): 3}, "tuple"), ({True: 3}, "bool"), (np.datetime64("2020-01-01"), "datetime64"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name_and_type(value, kind):
    for holder, name in (
        (Thing(a=1, bad=value), "bad"),
        (Thing(inner=Thing(items=[1, value])), "inner.items[1]"),
        (Thing(table={"x.y": value}), "table['x.y']"),
    ):
        with pytest.raises(PluginError) as caught:
            capture(holder)
        assert name in caught.value.message and kind in caught.value.message


def test_an_open_file_is_refused(tmp_path):
    with (tmp_path / "log").open("w") as file, pytest.raises(PluginError, match=r"log: .*TextIOWrapper"):
        capture(Thing(log=file))


def closure(value):
    return lambda: value


def counter():
    count = 0

    def step():
        nonlocal count
        count += 1

    return step


def remembering(x, seen=[]):  # noqa: B006 - the fault that is looked for
    seen.append(x)


def with_attribute():
    def function():
        pass

    function.cache = {}
    return function


class Loop:
    """An object that nothing else holds."""

    def step(self):
        pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: [].append, "bad: this builtin_function_or_method holds a list (bad.__self__)"),
        (lambda: Loop().step, "bad: this method holds a Loop (bad.__self__)"),
        (lambda: np.random.default_rng(0).normal, "holds a Generator (bad.__self__)"),
        (lambda: closure({}), "bad: this function holds a dict (bad, variable value)"),
        (lambda: closure(closure([])), "holds a list (bad, variable value, variable value)"),
        (counter, "holds a cell (bad, variable count)"),
        (lambda: remembering, "holds a list (bad, default 0)"),
        (with_attribute, "holds a dict (bad, cache)"),
        (lambda: functools.partial(np.add, np.ones(2)), "this partial holds a ndarray (bad(0))"),
        (lambda: functools.partial(max, key=[].index), "this partial holds a list (bad(key=).__self__)"),
        (lambda: Frozen([1]), "bad: this Frozen holds a list (bad.weight)"),
        (lambda: Frozen((1, {2})), "bad: this Frozen holds a set (bad.weight[1])"),
        (lambda: Frozen(Frozen(bytearray())), "holds a bytearray (bad.weight.weight)"),
    ],
)
def test_constants_that_hold_what_can_change_are_refused(make, said):
    for holder, path in ((Thing(bad=make()), ""), (Thing(inner=Thing(items=[make()])), "inner.items[0]")):
        with pytest.raises(PluginError) as caught:
            capture(holder)
        message = caught.value.message
        assert (said if not path else said.replace("bad", path)) in message and "would lose" in message
        assert "attribute of the algorithm" in caught.value.hint


def recursive(n):
    def factorial(k):
        return k * factorial(k - 1) if k else n

    return factorial


def test_constants_of_immutable_values_are_kept():
    fine = [
        len, max, functional.relu, "x".upper, closure(3), closure(closure((1, "a", None))), recursive(1), Thing,
        functools.partial(functional.relu, 3, b=Frozen(frozenset({1}))), Frozen((1, 2.5, b"x", np.float32(1), np)),
    ]  # fmt: skip
    arrays, _ = capture(Thing(alone=fine[0], items=fine))
    assert arrays == {}


def views(weight):
    """Pairs of things of one memory, of which none is the other."""
    data = weight.data
    return [(weight, weight[0]), (data[:2], data[1:]), (data, weight.reshape(-1).detach()), (data.T, data)]


@pytest.mark.parametrize("which", range(4))
def test_arrays_that_share_a_part_of_their_memory_are_refused(which):
    first, second = views(tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))[which]
    for holder in (Thing(a=first, inner=Thing(b=second)), Thing(a=second, inner=Thing(b=first))):
        with pytest.raises(PluginError) as caught:
            capture(holder)
        message = caught.value.message
        assert "share memory" in message and set(message.split(" share")[0].split(" and ")) == {"a", "inner.b"}
        assert "a copy" in caught.value.hint


def test_views_that_share_no_element_are_kept():
    data = backend.current().from_host(np.arange(12.0).reshape(3, 4))
    arrays, _ = capture(Thing(even=data[:, ::2], odd=data[:, 1::2], none=data[:0]))
    assert arrays.keys() == {"even", "odd", "none"}
