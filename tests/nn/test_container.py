"""ModuleList and ModuleDict: what a list and a dictionary do, and the names in the state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import nn
from tinygen.random import Stream


def layer(number):
    return nn.Linear(1, 1, bias=False, random=Stream(number))


def is_the_list(held, expected):
    assert len(held) == len(expected) and all(a is b for a, b in zip(held, expected, strict=True))
    assert [name for name, _ in held.named_parameters()] == [f"{i}.weight" for i in range(len(expected))]


operations = st.lists(
    st.tuples(st.sampled_from(["append", "extend", "insert", "set", "delete", "cut", "pop", "+="]), st.integers(-3, 3)),
    max_size=8,
)


@given(st.integers(0, 4), operations)
def test_a_module_list_is_a_list(count, steps):
    expected = [layer(i) for i in range(count)]
    held = nn.ModuleList(expected)
    for number, (operation, at) in enumerate(steps):
        new, inside = layer(100 + number), -len(expected) <= at < len(expected)
        if operation == "append":
            assert held.append(new) is held
            expected.append(new)
        elif operation == "extend":
            held.extend([new, layer(200 + number)])
            expected.extend(list(held)[-2:])
        elif operation == "+=":
            held += [new]
            expected += [new]
        elif operation == "insert":
            held.insert(at, new)
            expected.insert(at, new)
        elif operation == "cut":
            del held[at : at + 2]
            del expected[at : at + 2]
        elif operation == "set" and inside:
            held[at] = new
            expected[at] = new
        elif operation == "delete" and inside:
            del held[at]
            del expected[at]
        elif operation == "pop" and inside:
            assert held.pop(at) is expected.pop(at)
        elif not inside:
            with pytest.raises(IndexError, match=f"ModuleList: index {at} is out of range for {len(expected)} modules"):
                held[at]
        is_the_list(held, expected)
        is_the_list(held[at:], expected[at:])


def test_a_state_goes_by_places_and_modes_reach_all():
    one, two = nn.ModuleList([layer(0), layer(1)]), nn.ModuleList(layer(i) for i in (2, 3))
    two.load_state_dict(one.state_dict())
    assert list(one.state_dict()) == ["0.weight", "1.weight"]
    assert np.array_equal(one[1].weight.numpy(), two[1].weight.numpy())
    assert not one.eval()[0].training
    both = one + two
    assert len(both) == 4 and both[2] is two[0] and len(one) == 2
    assert list(both.state_dict()) == ["0.weight", "1.weight", "2.weight", "3.weight"]
    eleven = nn.ModuleList(layer(i) for i in range(11))
    assert list(eleven.state_dict())[-1] == "10.weight" and eleven[10] is eleven[-1]
    assert repr(one).startswith("ModuleList(\n  (0): Linear")


def test_a_module_dict_is_a_dictionary():
    a, b, c = (layer(i) for i in range(3))
    held = nn.ModuleDict({"first": a, "second": b})
    held["third"] = c
    assert list(held) == held.keys() == ["first", "second", "third"] and "first" in held and "x" not in held
    assert held["second"] is b and held.values() == [a, b, c] and len(held) == 3
    assert list(held.state_dict()) == ["first.weight", "second.weight", "third.weight"]
    held["first"] = c  # takes the place of the one before
    assert held.items() == [("first", c), ("second", b), ("third", c)]
    assert held.pop("second") is b
    del held["first"]
    assert held.keys() == ["third"]
    held.update([("fourth", a)])
    held.update(nn.ModuleDict({"third": b}))
    assert held.items() == [("third", b), ("fourth", a)]
    held.clear()
    assert len(held) == 0 and not list(held.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.ModuleList([layer(0), 1]), TypeError, "ModuleList: expected modules, 1 is of type int"),
        (lambda: nn.ModuleList().append(None), TypeError, "ModuleList: expected modules, 0 is of type NoneType"),
        (lambda: nn.ModuleList()[0], IndexError, "ModuleList: index 0 is out of range for 0 modules"),
        (lambda: nn.ModuleList([layer(0)])(1), NotImplementedError, "ModuleList defines no forward"),
        (lambda: nn.ModuleDict({"a": 1}), TypeError, "ModuleDict: expected modules, a is of type int"),
        (lambda: nn.ModuleDict({1: layer(0)}), TypeError, "ModuleDict: expected names as keys, got 1"),
        (lambda: nn.ModuleDict({"a.b": layer(0)}), ValueError, "ModuleDict: the key must be a name without dots"),
        (lambda: nn.ModuleDict({"": layer(0)}), ValueError, "ModuleDict: the key must be a name"),
        (lambda: nn.ModuleDict({"training": layer(0)}), ValueError, "do not use themselves, got 'training'"),
        (lambda: nn.ModuleDict({"forward": layer(0)}), ValueError, "do not use themselves, got 'forward'"),
        (lambda: nn.ModuleDict({"a": layer(0)})["b"], KeyError, "ModuleDict: no module 'b'; there are a"),
        (lambda: nn.ModuleDict().pop("training"), KeyError, "ModuleDict: no module 'training'; there are none"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_change_changes_nothing():
    held = nn.ModuleList([layer(0), layer(1)])
    before = list(held)
    with pytest.raises(TypeError, match="ModuleList"):
        held.extend([layer(2), "x"])
    is_the_list(held, before)
