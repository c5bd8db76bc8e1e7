"""State that cannot be kept, or does not fit what it is put back into, is refused by name."""

import collections
import dataclasses
import random
import threading

import numpy as np
import pytest

from tests.run.test_state import Thing, saved
from tinygen import backend, functional, nn, optim, tensor
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
