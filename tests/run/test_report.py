"""Figures and progress: means are means, the log survives a torn line, and progress suits where it is shown."""

import io
import json
import math
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend, tensor
from tinygen.errors import CheckpointError, OutputError, PluginError
from tinygen.run import report
from tinygen.run.report import Bar, Means, MetricsLog, Report
from tinygen.testing import strict

NUMBERS = st.floats(-1000, 1000, width=32)


# ---------------------------------------------------------------- figures


def mean_of(metrics):
    means = Means()
    means.add(metrics)
    return means.take()


@pytest.mark.usefixtures("backend")
@given(st.lists(st.dictionaries(st.sampled_from(["loss", "d", "g"]), NUMBERS), max_size=20), st.data())
def test_means_are_taken_over_the_steps_that_have_the_figure(steps, data):
    forms = [float, np.float32, tensor, lambda x: tensor([[x]]), lambda x: tensor(x).data]
    means = Means()
    for metrics in steps:
        means.add({name: data.draw(st.sampled_from(forms))(value) for name, value in metrics.items()})
    taken = means.take()
    for name in {name for metrics in steps for name in metrics}:
        values = [metrics[name] for metrics in steps if name in metrics]
        assert type(taken[name]) is float
        # float32 sums of 20 numbers up to 1000
        assert math.isclose(taken[name], math.fsum(values) / len(values), rel_tol=1e-5, abs_tol=0.02)
    assert taken.keys() == {name for metrics in steps for name in metrics}
    assert means.take() == {}


@pytest.mark.usefixtures("backend")
def test_a_tensor_that_is_written_to_later_was_counted_as_it_was():
    means, loss = Means(), tensor(1.0)
    means.add({"loss": loss})
    loss.data[...] = 100.0
    assert means.take() == {"loss": 1.0}


def test_means_wait_for_the_device_only_when_they_are_taken():
    with backend.using("strict"), strict.counting() as count:
        means, loss = Means(), tensor(1.0)
        count.synchronizations = 0
        for _ in range(10):
            means.add({"loss": loss})
        assert count.synchronizations == 0
        means.take()
        assert count.synchronizations == 1


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("value", ["low", None, [1.0], 1j, {"a": 1}, object()])
def test_a_figure_that_is_no_number_is_named(value):
    with pytest.raises(PluginError, match="metric loss: expected a number"):
        mean_of({"loss": value})


@pytest.mark.usefixtures("backend")
def test_a_figure_of_several_numbers_is_named_with_its_shape():
    with pytest.raises(PluginError, match=r"metric loss: .* of shape \(2,\)"):
        mean_of({"loss": tensor([1.0, 2.0])})


@pytest.mark.parametrize("name", ["step", "seconds", 3])
def test_names_that_a_line_of_the_log_has_already_are_refused(name):
    with pytest.raises(PluginError, match="the name is taken"):
        mean_of({name: 1.0})


# ---------------------------------------------------------------- the log


def test_lines_come_back_and_a_torn_last_one_is_left_out(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.rows() == []
    rows = [{"step": step, "seconds": 0.5, "loss": 1 / 3} for step in (5, 10, 15)]
    for row in rows:
        log.append(row)
    assert log.rows() == rows == [json.loads(line) for line in log.path.read_text().splitlines()]
    with log.path.open("ab") as file:
        file.write(b'{"step": 20, "lo\xc3')
    assert log.rows() == rows


@pytest.mark.parametrize("step", [0, 5, 12, 15, 99])
def test_lines_beyond_a_step_are_dropped(tmp_path, step):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.drop_after(step)
    assert not log.path.exists()
    for row in (5, 10, 15):
        log.append({"step": row})
    with log.path.open("a") as file:
        file.write('{"step": 20')
    log.drop_after(step)
    assert log.path.read_text() == "".join(f'{{"step": {row}}}\n' for row in (5, 10, 15) if row <= step)


def test_a_damaged_line_in_the_middle_is_told(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: damaged"):
        log.rows()


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        MetricsLog(tmp_path).append({"step": 1})


# ---------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drive(shown, steps=40):
    shown.start("toy", 10, steps)
    for step in range(11, steps + 1):
        shown.step(step)
        if step % 20 == 0:
            shown.log(step, {"loss": 0.123456, "d": 2.0})
            shown.note("half-way [bold]")
    shown.stop()


def test_lines_tell_step_rate_and_figures(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    drive(report.for_stderr(quiet=False))
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) == 4 and lines[0].startswith("step 20/40  ") and lines[1] == "half-way [bold]"
    assert lines[2].endswith(" steps/s  loss 0.1235  d 2")


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    shown = report.for_stderr(quiet=False)
    assert type(shown) is Bar
    drive(shown)
    text = sys.stderr.getvalue()
    for said in ("toy", "40/40", "steps/s", "loss 0.1235", "half-way [bold]"):
        assert said in text


def test_quiet_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = report.for_stderr(quiet=True)
    assert type(shown) is Report
    drive(shown)
    assert sys.stderr.getvalue() == ""


def test_the_bar_is_not_redrawn_at_each_step(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = iter(np.arange(0, 1000, 0.01))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    shown = Bar()
    shown.start("toy", 0, 1000)
    drawn = []
    monkeypatch.setattr(shown._progress, "update", lambda *args, **fields: drawn.append(fields["completed"]))
    for step in range(100):  # a second
        shown.step(step)
    assert 9 <= len(drawn) <= 11
    shown.stop()
