"""The receipt of a step: what ran, what it held, and which gradient came back, by hand."""

import math
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen import no_grad
from tinygen.autograd import engine
from tinygen.autograd.function import Function
from tinygen.cli import step as cli_step
from tinygen.study import receipt

HERE = [__file__]


def step(x, w):
    with no_grad():
        x.exp()
    y = x * w
    loss = (y * y).sum()
    loss.backward()
    return y


@given(rows=st.integers(1, 5), seed=st.integers(0, 100))
def test_operations_gradients_and_memory_are_those_of_the_step(rows, seed):
    random = np.random.default_rng(seed)
    x, w = tinygen.tensor(random.normal(size=(rows, 3))), tinygen.tensor(random.normal(size=3), requires_grad=True)
    with receipt.recording(HERE) as recorded:
        step(x, w)
    names = [entry.name for entry in recorded.entries]
    assert names == ["exp", "multiply", "multiply", "sum"]
    assert [entry.on_tape for entry in recorded.entries] == [False, True, True, True]
    assert [entry.bytes for entry in recorded.entries] == [rows * 3 * 8] * 3 + [8]
    assert recorded.entries[1].inputs == (f"({rows}, 3)", "(3)") and recorded.entries[1].output == f"({rows}, 3)"
    assert all(entry.place.startswith("test_receipt.py:") for entry in recorded.entries)
    y = x.numpy() * w.numpy()
    expected = [None, np.linalg.norm(2 * y), math.sqrt(3 * rows), 1.0]  # ∂loss/∂y, ∂loss/∂(y y), ∂loss/∂loss
    for entry, norm in zip(recorded.entries, expected):
        assert entry.gradient == (None if norm is None else pytest.approx(norm, rel=1e-12))
    assert [entry.name for entry in recorded.backward] == ["sum", "multiply", "multiply"]
    assert recorded.backward[0].arrived == "1"
    forward, back = (sum(getattr(e, name) for e in recorded.entries) for name in ("seconds", "back_seconds"))
    assert forward > 0 and back > 0 and forward + back <= recorded.seconds


def test_gradients_that_are_on_the_tape_are_operations_too():
    x = tinygen.tensor([2.0], requires_grad=True)
    with receipt.recording(HERE) as recorded:
        slope = tinygen.grad((x * x).sum(), x, create_graph=True)
        tinygen.grad(slope.sum(), x)
    assert sum(entry.on_tape for entry in recorded.entries) > 4


def test_afterwards_all_is_as_it_was():
    before = Function.__call__, engine._gradients_of, engine.backpropagate
    with pytest.raises(ZeroDivisionError), receipt.recording(HERE):
        raise ZeroDivisionError
    assert (Function.__call__, engine._gradients_of, engine.backpropagate) == before


def test_the_table_has_a_line_for_each_and_the_sums():
    w = tinygen.tensor(np.ones((4, 64)), requires_grad=True)
    with receipt.recording(HERE) as recorded:
        F.softplus(w).sum().backward()
    head, softplus, total, _, counted, time = recorded.table().splitlines()
    assert head.split()[:3] == ["operation", "inputs", "output"]
    assert softplus.split()[:5] == ["softplus", "(4,", "64)", "(4,", "64)"] and "2.0" in softplus.split()
    assert total.split()[0] == "sum" and " 1 " in total
    assert counted.startswith("2 operations, 2 of them on the tape") and "backward" in time
    assert [row["operation"] for row in recorded.rows()] == ["softplus", "sum"]


def test_the_walk_shows_formulas_and_numbers_forward_and_back():
    w = tinygen.tensor([1.0, -2.0, 0.5, 3.0, 4.0], requires_grad=True)
    with receipt.recording(HERE) as recorded:
        (w * 2.0).sum().backward()
    text = list(recorded.walk())
    assert text[0] == "forward" and text[3] == "backward"
    assert "y = x0 · x1." in text[1] and "2 -4 1 6 … (5 in all)" in text[1]
    assert "gx0 = gy · x1" in text[5] and "gx0 = 2 2 2 2 … (5 in all)" in text[5]


@pytest.mark.parametrize(("answers", "shown"), [(["", "", ""], 4), (["2", ""], 4), (["q"], 1), ([None], 1)])
def test_a_reader_at_a_terminal_goes_on_at_will(monkeypatch, answers, shown):
    told, answers = [], iter(answers)
    out = types.SimpleNamespace(terminal=True, result=lambda document, text: told.append(text))

    def answer(prompt):
        given = next(answers)
        if given is None:
            raise EOFError
        return given

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(cli_step.sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    cli_step._tell(["a", "b", "c", "d"], out)
    assert told == ["a", "b", "c", "d"][:shown]
