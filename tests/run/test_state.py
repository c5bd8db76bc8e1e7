"""What a checkpoint keeps of an object: everything goes out and comes back, in place and in the same memory order."""

import copy
import dataclasses
import enum
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinygen import backend, functional, nn, optim, tensor
from tinygen.autograd import Tensor
from tinygen.random import Stream
from tinygen.run.state import capture, restore

pytestmark = pytest.mark.usefixtures("backend")


@dataclasses.dataclass(frozen=True)
class Pair:
    a: object
    b: object


class Thing:
    """An object with the attributes that it is given."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


def saved(thing):
    """What capture gives, as it comes back from a file: copies, and through JSON."""
    arrays, table = capture(thing)
    assert all(array.flags.c_contiguous for array in arrays.values())  # as safetensors requires
    return {name: np.array(array) for name, array in arrays.items()}, json.loads(json.dumps(table))


# ---------------------------------------------------------------- any nested state comes back

DTYPES = ("float32", "float64", "float16", "int64", "int8", "uint64", "bool")
NAMES = st.text("abcxyz_.", min_size=1, max_size=3)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
LEAVES = st.one_of(
    st.sampled_from(["none", "bool", "int", "float", "text", "stream", "linear", "optimizer", "function"]).map(
        lambda kind: (kind,)
    ),
    st.tuples(st.sampled_from(["array", "tensor", "number", "turned", "sliced"]), SHAPES, st.sampled_from(DTYPES)),
    st.tuples(st.just("again"), st.integers(0, 9)),
)
PLANS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("list"), st.lists(inner, max_size=4)),
        st.tuples(st.just("tuple"), st.lists(inner, max_size=4)),
        st.tuples(st.just("dict"), st.dictionaries(NAMES | st.integers(-2, 12), inner, max_size=3)),
        st.tuples(st.just("object"), st.dictionaries(NAMES, inner, max_size=4)),
    ),
    max_leaves=15,
)
ROOTS = st.dictionaries(NAMES, PLANS, max_size=5)


class Builder:
    """Builds what a plan says, with contents from a seed. Plans say which things are one and the same."""

    def __init__(self, seed):
        self.draws, self.made = np.random.default_rng(seed), []

    def array(self, shape, dtype):
        return backend.current().from_host((self.draws.integers(-3, 4, shape) * 1.25).astype(dtype))

    def build(self, plan):
        kind, *rest = plan
        value = getattr(self, f"make_{kind}")(*rest)
        if kind not in ("again", "none", "bool", "int", "float", "text", "tuple", "function"):
            self.made.append(value)
        return value

    def make_again(self, place):
        return self.made[place % len(self.made)] if self.made else None

    def make_none(self):
        return None

    def make_function(self):
        return functional.relu

    def make_bool(self):
        return bool(self.draws.integers(2))

    def make_int(self):
        return int(self.draws.integers(-(2**62), 2**62)) ** 2

    def make_float(self):
        return float(self.draws.choice([0.1, -np.inf, 1e-310, self.draws.normal()]))

    def make_text(self):
        return str(self.draws.choice(["", "a.b", "ℒ", '"\n', "x" * 9]))

    def make_array(self, shape, dtype):
        return self.array(shape, dtype)

    def make_turned(self, shape, dtype):
        return self.array((*shape, 3, 2), dtype).transpose(range(-2, len(shape)))  # channels-last memory and the like

    def make_sliced(self, shape, dtype):
        return self.array((*shape, 6), dtype)[..., ::-2]

    def make_number(self, shape, dtype):
        return np.dtype(dtype).type(self.draws.integers(0, 2))

    def make_tensor(self, shape, dtype):
        return Tensor(self.array(shape, dtype), requires_grad=dtype.startswith("float"))

    def make_stream(self):
        stream = Stream(int(self.draws.integers(9)), "x")
        stream.normal(int(self.draws.integers(9)))
        return stream

    def make_linear(self):
        return nn.Linear(2, 3, random=self.make_stream())

    def make_optimizer(self):
        weight = nn.Parameter(self.array((2,), "float32"))
        optimizer = optim.Adam([weight], lr=float(self.draws.random()))
        for _ in range(self.draws.integers(3)):
            weight.grad = Tensor(self.array((2,), "float32"))
            optimizer.step()
        return optimizer

    def make_list(self, plans):
        return [self.build(plan) for plan in plans]

    def make_tuple(self, plans):
        return tuple(self.build(plan) for plan in plans)

    def make_dict(self, plans):
        return {key: self.build(plan) for key, plan in plans.items()}

    def make_object(self, plans):
        return Thing(**self.make_dict(plans))


def on_host(value):
    return np.asarray(value) if isinstance(value, np.generic) else backend.of(value).to_host(value)


def memory_order(array):
    """The axes along which there is something to tell apart, from the slowest to the fastest."""
    axes = [axis for axis, n in enumerate(array.shape) if n > 1 and array.size]
    return sorted(axes, key=lambda axis: -abs(array.strides[axis]))


def assert_equal(a, b, pairs):
    """a and b hold the same, and things that are one in a are one in b. Written without looking at state.py."""
    assert type(a) is type(b)
    if isinstance(a, (Tensor, list, dict, Thing, nn.Module, optim.Optimizer, Stream)):
        if id(a) in pairs:
            assert pairs[id(a)] is b
            return
        pairs[id(a)] = b
    if isinstance(a, Tensor):
        assert a.requires_grad == b.requires_grad
        assert_equal(a.data, b.data, {})
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_equal(x, y, pairs)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key], pairs)
    elif isinstance(a, Stream):
        place_a, place_b = copy.deepcopy(a), copy.deepcopy(b)
        assert_equal(place_a.uniform(5), place_b.uniform(5), {})
    elif isinstance(a, optim.Optimizer):
        assert (a.lr, a.steps) == (b.lr, b.steps)
        assert_equal(a.state, b.state, {})
    elif isinstance(a, (Thing, nn.Module)):
        assert_equal(vars(a), vars(b), pairs)
    elif hasattr(a, "dtype"):
        x, y = on_host(a), on_host(b)
        assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes("A") == y.tobytes("A")
        assert memory_order(x) == memory_order(y)
    else:
        assert a == b


@given(ROOTS, st.integers(0, 2**32), st.integers(0, 2**32))
@example({"a": ("sliced", (2, 1), "float32")}, 0, 0)  # an axis of size 1 lies anywhere
def test_any_state_comes_back_into_another_object_of_the_same_make(plan, seed, other):
    before, after = Builder(seed).make_object(plan), Builder(other).make_object(plan)
    restore(after, *saved(before))
    assert_equal(before, after, {})
    arrays, table = saved(after)
    assert table == saved(before)[1] and arrays.keys() == saved(before)[0].keys()


# ---------------------------------------------------------------- how it comes back


def test_a_module_is_kept_under_the_names_of_its_state_dict():
    model = nn.Sequential(nn.Linear(2, 3, random=Stream(0)), nn.BatchNorm1d(3))
    arrays, _ = capture(Thing(generator=model))
    assert arrays.keys() == {f"generator.{name}" for name in model.state_dict()}
    assert capture(model)[0].keys() == model.state_dict().keys()  # an algorithm that is a module itself


def test_streams_within_layers_are_kept():
    def outputs(layer):
        return [layer(tensor([[1.0] * 9])).numpy() for _ in range(3)]

    before, after = nn.Dropout(0.5, random=Stream(0)), nn.Dropout(0.5, random=Stream(0))
    outputs(before)
    restore(after, *saved(before))
    np.testing.assert_array_equal(outputs(after), outputs(before))


def test_an_optimizer_goes_on_to_hold_the_parameters_of_its_module():
    def make():
        model = nn.Linear(2, 2, random=Stream(0))
        return Thing(model=model, optimizer=optim.Adam(model.parameters()))

    after = make()
    restore(after, *saved(make()))
    held = list(after.optimizer.parameters)
    assert [id(p) for p in held] == [id(p) for p in after.model.parameters()]
    assert all(isinstance(p, nn.Parameter) for p in held)


def test_containers_and_objects_are_filled_in_place():
    before = Thing(numbers=[1, 2, 3], table={"a": 1}, inner=Thing(x=1), weight=tensor([1.0]))
    after = Thing(numbers=[7], table={"b": 2}, inner=Thing(x=2), weight=tensor([2.0]))
    held = dict(vars(after))
    restore(after, *saved(before))
    assert all(vars(after)[name] is held[name] for name in held)
    assert (after.numbers, after.table, after.inner.x, after.weight.item()) == ([1, 2, 3], {"a": 1}, 1, 1.0)


def test_circles_are_closed_again():
    def make(x):
        thing = Thing(x=x, items=[])
        thing.itself = thing
        thing.items.append(thing.items)
        return thing

    after = make(2)
    restore(after, *saved(make(1)))
    assert after.itself is after and after.items[0] is after.items and after.x == 1


def test_lists_and_dicts_may_grow_and_none_may_become_a_value():
    place = backend.current().from_host
    grown = Thing(
        images=[tensor([1.0], requires_grad=True), place(np.arange(3)), np.float32(0.1), "x", (1, 2.5, None)],
        table={"a": {"b": tensor([2])}, 3: [place(np.ones((2, 2)))]},
        best=tensor([3.0]),
        last=place(np.ones(2)),
    )
    after = Thing(images=[], table={}, best=None, last=None)
    restore(after, *saved(grown))
    assert_equal(grown, after, {})


def test_functions_and_frozen_dataclasses_stay_as_they_are():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        lr: float

    def make(lr, items):
        return Thing(
            settings=Settings(lr), act=functional.relu, kind=Thing, xp=np, place=backend.current(),
            bound="x".upper, layers=[functional.relu, *items, Settings],
        )  # fmt: skip

    before, after = make(1, [3]), make(2, [4])
    restore(after, *saved(before))
    assert after.settings.lr == 2
    assert after.layers == [functional.relu, 3, after.layers[2]]
    assert capture(before)[0] == {}


class Phase(enum.Enum):
    WARM = enum.auto()
    HOT = enum.auto()


def test_the_member_of_an_enum_comes_back():
    after = Thing(phase=Phase.WARM, phases=[])
    restore(after, *saved(Thing(phase=Phase.HOT, phases=[3])))
    assert after.phase is Phase.HOT and Phase.WARM.name == "WARM"


def of_each_kind(weight):
    """Constants that hold `weight`."""
    return {
        "closure": lambda: weight, "partial": partial(functional.relu, weight), "method": weight.numpy,
        "frozen": Pair(1, (weight,)), "default": lambda w=weight: w,
    }  # fmt: skip


def test_what_a_constant_holds_may_be_state_that_is_kept_elsewhere():
    def make(value):
        weight = tensor([value])
        return Thing(weight=weight, **of_each_kind(weight))

    after = make(0.0)
    restore(after, *saved(make(1.0)))
    held = [after.closure(), after.partial.args[0], after.method.__self__, after.frozen.b[0], after.default()]
    assert all(weight is after.weight for weight in held) and after.weight.item() == 1.0


def test_one_array_under_two_names_stays_one():
    def make(value):
        weight = tensor([value, value])
        return Thing(weight=weight, copies=[weight.detach(), weight, weight.data], raw=weight.data)

    after = make(0.0)
    restore(after, *saved(make(1.0)))
    after.raw[...] = 5.0
    assert {id(after.weight.data), id(after.copies[0].data), id(after.copies[2])} == {id(after.raw)}
    assert after.copies[1] is after.weight and after.copies[0].numpy().tolist() == [5.0, 5.0]


def test_host_arrays_stay_on_the_host_and_device_arrays_on_the_device():
    host, device = np.arange(3), backend.current().from_host(np.arange(3))
    after = Thing(items=[], host=np.zeros(3, int), device=backend.current().from_host(np.zeros(3, int)))
    restore(after, *saved(Thing(items=[host, device], host=host, device=device)))
    assert [type(item) for item in after.items] == [type(host), type(device)]
    assert type(after.host) is type(host) and type(after.device) is type(device)


@pytest.mark.parametrize("names", [("numpy", "strict"), ("strict", "numpy")])
def test_what_was_saved_on_one_backend_comes_back_on_another(names):
    def make(seed):
        stream = Stream(seed)
        weight = nn.Parameter(stream.normal(3))
        optimizer = optim.Adam([weight])
        weight.grad = Tensor(stream.normal(3))
        optimizer.step()
        return Thing(weight=weight, optimizer=optimizer, stream=stream, raw=stream.normal(2))

    with backend.using(names[0]):
        before = make(0)
        state = saved(before)
    with backend.using(names[1]):
        after = make(1)
        restore(after, *state)
        np.testing.assert_array_equal(after.weight.numpy(), before.weight.numpy())
        np.testing.assert_array_equal(on_host(after.raw), on_host(before.raw))
        assert backend.of(after.weight.data).name == backend.of(after.raw).name == names[1]
        after.weight.grad = Tensor(after.stream.normal(3))
        after.optimizer.step()


def test_what_is_restored_shares_no_memory_with_what_was_captured():
    before, after = Thing(a=tensor([1.0])), Thing(a=tensor([0.0]))
    restore(after, *capture(before))
    after.a.data[...] = 5.0
    assert before.a.item() == 1.0
