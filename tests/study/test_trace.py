"""What is seen of an algorithm at work: the shapes of each line, the tape of a step; and nothing is left behind."""

import contextlib
import sys

import numpy as np
import pytest

import tinygen
from tests.study.conftest import TOY
from tinygen import functional as F
from tinygen.autograd import engine
from tinygen.autograd.function import Function
from tinygen.functional.normalization import ScaleShift
from tinygen.study.rules import formula_of, rule_of
from tinygen.study.trace import place_in, shape_of, watch

LINES = TOY.read_text(encoding="utf-8").splitlines()


def line_of(text):
    (number,) = (number for number, line in enumerate(LINES, 1) if line.strip().startswith(text))
    return number


def at(study, text):
    return study.seen.shapes.get((str(TOY), line_of(text)), {})


def test_the_shapes_of_each_line(toy):
    assert not toy.seen.remarks
    assert at(toy, "images = next(batches)") == {"images": ["(2, 1, 28, 28)"]}
    assert at(toy, "a = self.net(x)") == {"a": ["(2, 5)"]}
    assert at(toy, "slope = tinygen.grad") == {"slope": ["(2, 1, 28, 28)"]}
    assert at(toy, "def loss_of") == {"a": ["(2, 5)"], "slope": ["(2, 1, 28, 28)"]}
    assert at(toy, "square = a * a") == {"square": ["(2, 5)"]}
    assert at(toy, "return square.mean()") == {"returns": ["a number"]}
    assert at(toy, "images = random.uniform") == {"images": ["(2, 1, 28, 28)"]}
    assert at(toy, "return tinygen.tensor(images)") == {"returns": ["(2, 1, 28, 28)"]}
    assert at(toy, "yield Step") == {}


def test_the_backward_passes_of_a_step(toy):
    first, second = toy.seen.backward_passes
    assert (first.line, first.owner) == (line_of("slope = tinygen.grad"), "Toy.fit")
    assert second.line == line_of("loss.backward()")
    assert [root.name for root in first.roots] == ["sum"]
    assert [root.name for root in second.roots] == ["add"]
    assert {operation.name for operation in second.roots} == {"add"}


def below(roots):
    found, stack = set(roots), list(roots)
    while stack:
        for source in stack.pop().sources:
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


def test_the_operations_of_the_tape(toy):
    first, second = (below(walk.roots) for walk in toy.seen.backward_passes)
    names = sorted(operation.name for operation in first)
    assert names == ["linear", "multiply", "multiply", "multiply", "relu", "reshape", "sum", "tanh", "tanh", "tanh"]
    assert first - {o for o in first if o.name == "sum"} < second  # the loss has the gradient's graph in it
    assert any(operation.is_gradient for operation in second) and not any(o.is_gradient for o in first)
    (linear,) = (operation for operation in first if operation.name == "linear")
    assert linear.leaves == ["net.1.weight", "net.1.bias"]
    assert (linear.inputs, linear.outputs) == (("(2, 784)", "(5, 784)", "(5)"), ("(2, 5)",))
    assert [type(module).__name__ for _, module in linear.layers] == ["Sequential", "Linear"]
    assert linear.line == line_of("a = self.net(x)")
    for operation in second:
        assert all(source.outputs for source in operation.sources)


def test_nothing_is_left_behind(tmp_path):
    before = Function.__call__, engine.backpropagate, sys.gettrace()
    file = tmp_path / "code.py"
    file.write_text("x = 1\n")

    def fails():
        with watch([str(file)], object):
            assert Function.__call__ is not before[0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert (Function.__call__, engine.backpropagate, sys.gettrace()) == before


ENDLESS = """
def f():
    n = 0
    while True:
        n += 1
"""


def test_the_time_is_limited(tmp_path):
    file = tmp_path / "endless.py"
    file.write_text(ENDLESS)
    names = {}
    exec(compile(ENDLESS, str(file), "exec"), names)
    with watch([str(file)], object, seconds=0.1):
        names["f"]()
    x = tinygen.ones(3, requires_grad=True)
    with watch([str(file)], object, seconds=0.1):
        while True:
            with contextlib.suppress(Exception):  # what an algorithm may do, and yet it comes to its end
                F.exp(x)


def test_watching_changes_no_number(registry, toy):
    """The gradient of a step under watch is that of one that nobody looks at."""
    x = tinygen.tensor(np.linspace(-1, 1, 6, dtype=np.float32), requires_grad=True)
    plain = tinygen.grad(F.tanh(x * x).sum(), x).numpy()
    with watch([str(TOY)], object):
        seen = tinygen.grad(F.tanh(x * x).sum(), x).numpy()
    assert np.array_equal(plain, seen)


def test_the_shapes_of_values():
    assert shape_of(np.zeros((2, 3))) == "(2, 3)"
    assert shape_of(tinygen.zeros(4)) == "(4)"
    assert shape_of(tinygen.zeros(4).sum()) == "a number"
    assert shape_of([np.zeros(1), np.zeros(2)]) == "(1), (2)"
    for value in (3, "text", None, [], [1, 2], np.zeros, object()):
        assert shape_of(value) == ""


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_operation_has_a_rule():
    for function in subclasses(Function):
        if function.__module__.startswith("tinygen.") and function.backward is not Function.backward:
            rule = rule_of(function)
            assert rule.text and (rule.is_code == rule.text.startswith("def backward")), function
    assert rule_of(type("Tanh", (Function,), {})).text == "gx = gy · (1 − y²)."
    assert "gw = gyᵀ x" in rule_of(type("Linear", (Function,), {})).text
    assert formula_of(type("Tanh", (Function,), {})) == "y = tanh x."
    assert formula_of(type("LogSumExp", (Function,), {})) == "y = log Σ eˣ, without overflow."
    assert formula_of(ScaleShift) == "y = x a + b, or x a."
    assert formula_of(type("Unheard", (Function,), {})) == ""


def test_the_place_in_a_file():
    assert place_in({__file__})[0] == __file__
    assert LINES and place_in({str(TOY)}) == ("", 0)
