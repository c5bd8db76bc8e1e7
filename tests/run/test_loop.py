"""Training runs: what is done between the steps changes no number, and a run that was stopped goes on bit for bit."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run import toy_plugin
from tinygen import plot, tensor
from tinygen.autograd import is_grad_enabled
from tinygen.data import DataRequest
from tinygen.errors import AnomalyError, CheckpointError, OutputError, PluginError
from tinygen.host import Sampler
from tinygen.random import Stream
from tinygen.run import Every, Origin, Report, Run, checkpoint, draw, train
from tinygen.run.pictures import make_folder

on_each_backend = pytest.mark.usefixtures("backend")
OFTEN = Every(log=2, sample=0, checkpoint=3)


@pytest.fixture(autouse=True)
def curves(monkeypatch):
    """Matplotlib takes longer than all the training of these tests; tests/cli/test_train.py looks at true curves."""
    monkeypatch.setattr(plot, "curves", lambda path, rows: path.write_text(str(len(rows))))


def make(folder, factory=toy_plugin.Toy, seed=0, **options):
    config = toy_plugin.Config(**options)
    data = toy_plugin.dots(DataRequest())
    origin = Origin(
        name="toy", provider="toys", config=checkpoint.config_values(config), seed=seed, data="dots", image_size=None,
        grey=False, images=checkpoint.image_values(data.spec), digest=data.digest(),
    )  # fmt: skip
    return Run(folder, origin, factory, config, data)


def resumed(folder, **options):
    run = make(folder, **options)
    run.go_to(checkpoint.read(folder))
    return run


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def figures(folder):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]


def assert_same(folder, other):
    """Two checkpoints that agree in every bit, but for the time that it took."""
    a, b = checkpoint.read(folder), checkpoint.read(other)
    assert (a.step, a.drawn, a.table) == (b.step, b.drawn, b.table)
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        assert array.tobytes() == b.arrays[name].tobytes(), name


# ---------------------------------------------------------------- going on


@on_each_backend
@settings(max_examples=5)
@given(st.lists(st.integers(1, 19), min_size=1, max_size=3, unique=True).map(sorted), st.integers(0, 9))
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path_factory, stops, seed):
    straight, stopped = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("stopped")
    train(make(straight, seed=seed), 20, OFTEN)
    train(make(stopped, seed=seed), stops[0], OFTEN)
    for steps in (*stops[1:], 20):
        train(resumed(stopped, seed=seed), steps, OFTEN)
    assert_same(straight, stopped)
    last = {row["step"]: row for row in figures(stopped)}
    regular = [row for row in figures(straight) if row["step"] - 1 not in stops and row["step"] not in stops]
    assert all(last[row["step"]] == row for row in regular)  # a stop splits the mean that it falls into


@on_each_backend
def test_what_is_done_between_the_steps_changes_no_number(tmp_path):
    class Nosy:
        def on_log(self, run, step, metrics):
            run.stream("preview").normal(3)

    always, never = Every(log=1, sample=1, checkpoint=1), Every(log=100, sample=0, checkpoint=0)
    train(make(tmp_path / "always"), 8, always, callbacks=[Nosy()])
    train(make(tmp_path / "never"), 8, never)
    assert_same(tmp_path / "always", tmp_path / "never")
    assert sorted(os.listdir(tmp_path / "always" / "samples")) == [f"step-{step:06d}.png" for step in range(1, 9)]
    assert sorted(os.listdir(tmp_path / "never")) == [
        "checkpoint.safetensors",
        "curves.png",
        "metrics.jsonl",
        "samples.png",
    ]


def test_another_seed_is_another_run(tmp_path):
    for seed in (0, 1):
        train(make(tmp_path / str(seed), seed=seed), 2, OFTEN)
    a, b = (checkpoint.read(tmp_path / str(seed)).arrays for seed in (0, 1))
    assert not np.array_equal(a["model.0.weight"], b["model.0.weight"])
    assert not np.array_equal(a["noise.pcg64"], b["noise.pcg64"])


def test_a_finished_run_stays_as_it_is(tmp_path):
    last = train(make(tmp_path), 6, OFTEN)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    assert train(resumed(tmp_path), 6, OFTEN) == last
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert [row["step"] for row in rows(tmp_path)] == [2, 3, 4, 6]


def test_a_run_never_writes_over_another(tmp_path):
    train(make(tmp_path), 6, OFTEN)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="made with step 6, not 0"):
        train(make(tmp_path), 9, OFTEN)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_lines_beyond_the_checkpoint_are_written_anew(tmp_path):
    train(make(tmp_path), 6, OFTEN)
    expected = figures(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "seconds": 1, "loss": 7}\n{"step": 9, "lo')
    resumed_run = resumed(tmp_path)
    train(resumed_run, 10, OFTEN)
    assert figures(tmp_path)[: len(expected)] == expected
    assert [row["step"] for row in rows(tmp_path)] == [2, 3, 4, 6, 8, 9, 10]
    assert all(row["loss"] != 7 for row in rows(tmp_path))
    seconds = [row["seconds"] for row in rows(tmp_path)]
    assert seconds == sorted(seconds)


# ---------------------------------------------------------------- figures, pictures, callbacks


def test_a_line_holds_the_means_since_the_last_one(tmp_path):
    train(make(tmp_path / "each"), 6, Every(log=1, sample=0, checkpoint=0))
    train(make(tmp_path / "means"), 6, Every(log=4, sample=0, checkpoint=0))
    each = figures(tmp_path / "each")
    first, second = figures(tmp_path / "means")
    assert first["step"] == 4 and second["step"] == 6
    np.testing.assert_allclose(first["loss"], np.mean([row["loss"] for row in each[:4]]), rtol=1e-6)
    np.testing.assert_allclose(second["loss"], np.mean([row["loss"] for row in each[4:]]), rtol=1e-6)
    assert (first["odd"], second["odd"]) == (2.0, 5.0)  # steps 1 and 3; step 5


def test_pictures_are_made_at_their_steps(tmp_path):
    train(make(tmp_path), 7, Every(log=5, sample=3, checkpoint=0))
    assert sorted(os.listdir(tmp_path / "samples")) == ["step-000003.png", "step-000006.png"]
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "curves.png").read_text() == "2"


def test_by_default_there_are_ten_pictures_and_at_least_twenty_lines():
    assert Every.default(1000) == Every(log=50, sample=100, checkpoint=100)
    assert Every.default(40) == Every(log=2, sample=4, checkpoint=4)
    assert Every.default(3) == Every(log=1, sample=1, checkpoint=1)


class Recorder(Report):
    """Both a report and a callback that remember what they were told."""

    def __init__(self):
        self.told = []

    def start(self, name, step, steps):
        self.told.append(("start", name, step, steps))

    def step(self, step):
        self.told.append(("step", step))

    def note(self, text):
        self.told.append(("note", text))

    def stop(self):
        self.told.append(("stop",))

    def on_start(self, run):
        self.told.append(("on_start", run.step))

    def on_log(self, run, step, metrics):
        self.told.append(("on_log", step, sorted(metrics)))

    def on_checkpoint(self, run, step):
        self.told.append(("on_checkpoint", step, checkpoint.read(run.folder).step))

    def on_end(self, run):
        self.told.append(("on_end", (run.folder / "samples.png").is_file()))


def test_report_and_callbacks_are_told_in_order(tmp_path):
    recorder = Recorder()
    train(make(tmp_path), 3, Every(log=2, sample=0, checkpoint=0), recorder, [recorder, object()])
    assert recorder.told == [
        ("start", "toy", 0, 3), ("on_start", 0), ("step", 1), ("step", 2), ("on_log", 2, ["loss", "odd"]), ("step", 3),
        ("on_log", 3, ["loss", "odd"]), ("on_checkpoint", 3, 3), ("on_end", True), ("stop",),
    ]  # fmt: skip


# ---------------------------------------------------------------- faults of a plugin


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("end", "fit ended after step 7 of 20"),
        ("yield a dict", "fit must yield Step, it yielded dict"),
        ("yield nothing", "fit must yield Step, it yielded NoneType"),
        ("metrics are no mapping", r"it yielded Step\(3\)"),
        ("metric is text", "metric loss: expected a number .* 'low'"),
        ("metric is an array", r"metric loss: .* of shape \(2,\)"),
        ("metric is called step", "metric 'step': the name is taken"),
        ("late attribute", "could not go on from step 9: .* late: not expected"),
        ("another shape", r"could not go on from step 9: .* extra: saved with shape \(2,\), expected \(1,\)"),
        ("unkept", "extra: a checkpoint cannot keep this set"),
    ],
)
def test_a_fit_that_breaks_its_contract_is_told_and_the_last_checkpoint_stays(tmp_path, fault, words):
    with pytest.raises(PluginError, match=words):
        train(make(tmp_path, fault=fault), 20, OFTEN)
    assert checkpoint.read(tmp_path).step == 6


def test_what_fit_raises_comes_through_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError, match="the toy broke"):
        train(make(tmp_path, fault="crash"), 20, OFTEN)
    assert checkpoint.read(tmp_path).step == 6


def test_what_cannot_be_trained_is_told_before_there_is_a_folder(tmp_path):
    with pytest.raises(PluginError, match="fit must be a generator, it returned list"):
        train(make(tmp_path / "a", toy_plugin.List), 3)
    with pytest.raises(PluginError, match="fit must be a generator, it returned list"):
        make(tmp_path / "a", toy_plugin.List).checked()
    with pytest.raises(PluginError, match="Unfit cannot be trained"):
        make(tmp_path / "b", toy_plugin.Unfit)
    with pytest.raises(PluginError, match=r"cache\['open files'\]: a checkpoint cannot keep this"):
        train(make(tmp_path / "c", toy_plugin.Locked), 3)
    assert os.listdir(tmp_path) == []


def test_a_fit_that_hands_on_a_generator_is_called_once(tmp_path):
    calls = []

    class Indirect(toy_plugin.Toy):
        def fit(self, batches):
            calls.append(next(batches))
            return super().fit(batches)

    run = make(tmp_path, Indirect)
    run.checked()
    train(run, 2, OFTEN)
    assert len(calls) == 1 and run.batches.drawn == 3
    train(run, 3, OFTEN)  # the first generator is closed
    assert len(calls) == 2 and run.step == 3


class Draws(Sampler):
    """A sampler that gives what it is told to."""

    def __init__(self, result):
        self.result = result

    def sample(self, n, random):
        return self.result


@on_each_backend
@pytest.mark.parametrize(
    ("result", "got"),
    [
        (np.zeros((2, 1, 4, 4)), "ndarray"), (None, "NoneType"), ((3, 1, 4, 4), r"\(3, 1, 4, 4\)"),
        ((2, 2, 4, 4), r"\(2, 2, 4, 4\)"), ((2, 4, 4), r"\(2, 4, 4\)"),
    ],
)  # fmt: skip
def test_samples_of_a_wrong_kind_or_shape_are_told(result, got):
    result = tensor(np.zeros(result)) if isinstance(result, tuple) else result
    with pytest.raises(PluginError, match=rf"Draws: sample\(2\) must give a Tensor \(2, 1 or 3, h, w\), got {got}"):
        draw(Draws(result), 2, Stream(0))


def test_samples_that_are_not_finite_are_told():
    with pytest.raises(AnomalyError, match="Draws: sample gave numbers that are not finite"):
        draw(Draws(tensor(np.full((2, 1, 4, 4), np.nan))), 2, Stream(0))


def test_previews_record_no_graph_and_always_get_the_same_noise(tmp_path):
    seen = []

    class Watched(toy_plugin.Toy):
        def sample(self, n, random):
            assert not is_grad_enabled()
            seen.append((n, float(random.uniform(()))))
            return super().sample(n, random)

    train(make(tmp_path, Watched), 4, Every(log=2, sample=2, checkpoint=0))
    assert [n for n, _ in seen] == [16, 16, 64] and len({noise for _, noise in seen}) == 1


# ---------------------------------------------------------------- numbers that are not finite


@on_each_backend
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_nan_stops_with_the_operation_and_the_step_that_made_it(tmp_path):
    recorder = Recorder()
    with pytest.raises(AnomalyError) as caught:
        train(make(tmp_path, fault="log", at=8), 20, Every(log=5, sample=0, checkpoint=6), recorder)
    assert caught.value.message.startswith("step 8: log makes a number that is not finite")
    assert "toy_plugin.py" in caught.value.message and "step 6 is kept" in caught.value.hint
    assert any(told[0] == "note" and told[1].startswith("step 10: loss is nan") for told in recorder.told)
    assert checkpoint.read(tmp_path).step == 6 and rows(tmp_path)[-1]["step"] == 6


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_only_the_steps_since_the_last_checkpoint_are_repeated(tmp_path):
    updates = []

    class Counted(toy_plugin.Toy):
        def fit(self, batches):
            for step in super().fit(batches):
                updates.append(self.updates)
                yield step

    with pytest.raises(AnomalyError, match="step 8: log"):
        train(make(tmp_path, Counted, fault="log", at=8), 20, Every(log=5, sample=0, checkpoint=6))
    assert updates == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 7]


def test_an_infinite_figure_that_no_operation_made_is_told_as_such(tmp_path):
    with pytest.raises(AnomalyError, match="step 8: loss is inf, and no operation on tensors made it so"):
        train(make(tmp_path, fault="metric is infinite"), 20, OFTEN)


@pytest.mark.parametrize("fault", ["nan state", "infinite state"])
def test_state_that_is_not_finite_is_never_saved(tmp_path, fault):
    with pytest.raises(AnomalyError, match="step 9: extra is not finite"):
        train(make(tmp_path, fault=fault), 20, Every(log=1, sample=0, checkpoint=3))
    assert checkpoint.read(tmp_path).step == 6


def test_infinities_that_were_there_from_the_beginning_are_no_fault(tmp_path):
    class Masked(toy_plugin.Toy):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.mask = np.array([0, -np.inf])

    train(make(tmp_path, Masked), 3, OFTEN)
    assert checkpoint.read(tmp_path).arrays["mask"][1] == -np.inf


def test_a_model_that_is_nan_from_the_beginning_is_told(tmp_path):
    class Broken(toy_plugin.Toy):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.scale = np.array([np.nan])

    with pytest.raises(AnomalyError, match="scale is NaN before training"):
        train(make(tmp_path / "run", Broken), 3, OFTEN)


# ---------------------------------------------------------------- folders and misfits


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(OutputError, match="cannot be made a folder"):
            make_folder(path)


def test_a_run_of_other_data_or_options_does_not_fit(tmp_path):
    train(make(tmp_path), 2, OFTEN)
    with pytest.raises(CheckpointError, match=r"model\.0\.weight: saved with shape \(8, 48\), expected \(4, 48\)"):
        resumed(tmp_path, widths=(4,))
