"""`tinygen train`: what it makes, what it refuses before it makes anything, and how a run goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.run.command import PLUGIN, tinygen
from tests.run.test_loop import assert_same
from tinygen import backend, plot
from tinygen.run import checkpoint

ROOT = Path(__file__).parents[2]
TRUE_CURVES = plot.curves
SHORT = ("--steps", 4, "--data", "dots", "--sample-every", 0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test in a folder of its own, without matplotlib, which takes longer than the training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "curves", lambda path, rows: path.write_text(""))
    for name in ("TINYGEN_DATA", "TINYGEN_PLUGINS_DIR", "TINYGEN_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def steps_in(folder):
    return [json.loads(line)["step"] for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def nothing_made():
    return os.listdir() == []


# ---------------------------------------------------------------- what it makes


def test_a_run_makes_its_files_and_tells_what_to_do_next(monkeypatch):
    monkeypatch.setattr(plot, "curves", TRUE_CURVES)
    done = tinygen("train", "toy", "--steps", 5, "--data", "dots", "--sample-every", 2, "--out", "here/run")
    assert done.code == 0 and done.out == "here/run/samples.png\n"
    assert sorted(os.listdir("here/run")) == [
        "checkpoint.safetensors", "curves.png", "metrics.jsonl", "samples", "samples.png",
    ]  # fmt: skip
    assert sorted(os.listdir("here/run/samples")) == ["step-000002.png", "step-000004.png"]
    assert steps_in("here/run") == [1, 2, 3, 4, 5]
    for picture in ("samples.png", "curves.png", "samples/step-000002.png"):
        with Image.open(f"here/run/{picture}") as image:
            assert image.mode.startswith("RGB") and min(image.size) > 200
    lines = done.err.splitlines()
    assert lines[0].startswith("step 1/5  ") and lines[5] == "next:"
    assert [line.split()[1] for line in lines[6:]] == ["sample", "evaluate", "train"]
    assert all("here/run" in line for line in lines[6:])


def test_json_is_one_document_and_nothing_beside_it():
    done = tinygen("train", "toy", *SHORT, "--json", "--seed", 3)
    assert done.err == ""
    document = done.document
    assert document.keys() == {"name", "out", "steps", "seconds", "metrics"}
    assert (document["name"], document["out"], document["steps"]) == ("toy", "runs/toy", 4)
    last = json.loads(Path("runs/toy/metrics.jsonl").read_text().splitlines()[-1])
    assert document["metrics"] == {"loss": last["loss"]} and document["seconds"] >= last["seconds"] > 0


def test_quiet_leaves_only_the_path():
    done = tinygen("train", "toy", *SHORT, "--quiet")
    assert (done.out, done.err) == ("runs/toy/samples.png\n", "")


def test_runs_are_numbered_and_never_overwritten():
    outs = [tinygen("train", "toy", *SHORT, "--json").document["out"] for _ in range(2)]
    os.makedirs("runs/toy-3")
    outs.append(tinygen("train", "toy", *SHORT, "--json").document["out"])
    assert outs == ["runs/toy", "runs/toy-2", "runs/toy-4"]


def test_options_of_the_plugin_reach_it():
    tinygen("train", "toy", *SHORT, "--lr", "1e-3", "--widths", 4, 3, "--no-bias", "--batch_size=5", "--image-size", 3)
    saved = checkpoint.read(Path("runs/toy"))
    assert saved.origin.config["lr"] == 1e-3 and saved.origin.config["widths"] == [4, 3]
    assert saved.origin.config["batch_size"] == 5 and saved.origin.config["bias"] is False
    assert saved.arrays["model.0.weight"].shape == (4, 27) and "model.0.bias" not in saved.arrays
    assert saved.origin.images["count"] == 20 and saved.drawn == 4


def test_steps_are_those_of_the_plugin_unless_told_and_reach_its_config():
    words = ("--data", "dots", "--sample-every", 0, "--out", "run")
    assert tinygen("train", "planned", *words, "--json").document["steps"] == 3
    tinygen("train", "planned", *words, "--resume", "--steps", 5)
    saved = checkpoint.read(Path("run"))
    assert saved.step == saved.origin.config["steps"] == 5
    assert "--steps int" not in tinygen("train", "planned", "--help").out


def test_the_same_seed_gives_the_same_run_and_another_another():
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        tinygen("train", "toy", *SHORT, "--seed", seed, "--out", out)
    assert_same(Path("a"), Path("b"))
    weights = [checkpoint.read(Path(out)).arrays["model.0.weight"] for out in "ac"]
    assert not np.array_equal(*weights)


def test_help_tells_the_options_of_the_verb_and_of_the_plugin():
    done = tinygen("train", "toy", "--help")
    assert done.code == 0 and "--checkpoint-every K" in done.out
    assert "--lr float              Step size. (default: 0.05)" in done.out
    assert "options of this algorithm" not in tinygen("train", "--help").out


# ---------------------------------------------------------------- what it refuses, before it makes anything


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ("toi",), ['there is no algorithm "toi"', 'did you mean "toy"?']),
        (2, ("stripes",), ["stripes has no verb train", "it has sample, evaluate"]),
        (2, ("toy", "--rl", "3"), ["unknown option --rl", 'did you mean "--lr"?']),
        (2, ("toy", "--stebs", "3"), ["unknown option --stebs", 'did you mean "--steps"?']),
        (2, ("toy", "--no-lr"), ["--no-lr"]),
        (2, ("toy", "-x", "3"), ["unknown option -x"]),
        (2, ("toy", "dots"), ['unexpected argument "dots"']),
        (2, ("toy", "--lr", "fast"), ["--lr", "fast"]),
        (2, ("toy", "--lr"), ["--lr", "issing value"]),
        (2, ("toy", "--lr", "-1"), ["--lr must be 0 or more, got -1.0", "for instance --lr 0.05"]),
        (2, ("toy", "--steps", "0"), ["--steps must be at least 1, got 0"]),
        (2, ("toy", "--steps", "many"), ["--steps", "many"]),
        (2, ("toy", "--seed", "-1"), ["--seed must be at least 0"]),
        (2, ("toy", "--log-every", "0"), ["--log-every must be at least 1"]),
        (2, ("toy", "--checkpoint-every", "-1"), ["--checkpoint-every must be at least 0"]),
        (2, ("toy", "--image-size", "0"), ["--image-size must be at least 1"]),
        (2, ("toy", "--data", "dotz"), ['there is no data set "dotz"', '"dots"']),
        (2, ("toy", "--data", "placed"), ["placed needs its PLACE", "--data placed:PLACE"]),
        (2, ("toy", "--data", "plain:x"), ["plain takes no argument"]),
        (1, ("toy", "--data", "missing", "--data-dir", "far"), ["missing: no files in far", "put them there"]),
        (3, ("toy", "--data", "not-data"), ["must return a Dataset, got a list"]),
        (3, ("locked",), ["cache['open files']: a checkpoint cannot keep this"]),
        (3, ("unfit",), ["Unfit cannot be trained"]),
        (3, ("list",), ["list: fit must be a generator, it returned list"]),
        (1, ("broken",), ["step 0: scale is NaN before training"]),
        (1, ("toy", "--resume"), ["there is no run of toy in runs/"]),
        (1, ("toy", "--resume", "--out", "x"), ["x: there is no run, checkpoint.safetensors is missing"]),
    ],
)
def test_what_cannot_be_meant_is_refused_before_there_is_a_folder(code, words, said):
    data = () if "--data" in words else ("--data", "dots")
    tinygen("train", *words, *data).refused(code, *said)
    assert nothing_made()


def test_an_error_in_json_is_one_document():
    done = tinygen("train", "toy", "--json", "--lr", "fast")
    assert done.code == 2 and done.err == ""
    assert done.document["error"]["code"] == "usage" and "fast" in done.document["error"]["message"]


def test_what_fit_raises_is_told_with_its_place():
    done = tinygen("train", "toy", *SHORT, "--fault", "crash", "--at", 3, "--quiet")
    done.refused(3, "ZeroDivisionError: the toy broke", "toy_plugin.py:")


@pytest.mark.parametrize("kept", ["checkpoint.safetensors", "metrics.jsonl", "samples.png"])
def test_a_folder_that_holds_a_run_is_left_alone(kept):
    os.mkdir("run")
    Path("run", kept).write_text("precious")
    tinygen("train", "toy", *SHORT, "--out", "run").refused(2, f"run already holds a run ({kept})", "--resume")
    assert os.listdir("run") == [kept] and Path("run", kept).read_text() == "precious"


def test_a_folder_with_other_things_is_used_and_they_stay():
    os.mkdir("run")
    Path("run", "notes.txt").write_text("precious")
    assert tinygen("train", "toy", *SHORT, "--out", "run").code == 0
    assert Path("run", "notes.txt").read_text() == "precious"


def test_a_file_in_the_way_is_told():
    Path("taken").write_text("precious")
    for out in ("taken", "taken/run"):
        tinygen("train", "toy", *SHORT, "--out", out, "--quiet").refused(1, f"{out}: cannot be made a folder")
    Path("runs").write_text("precious")
    tinygen("train", "toy", *SHORT, "--quiet").refused(1, "runs: cannot be made a folder")
    assert Path("taken").read_text() == Path("runs").read_text() == "precious"


# ---------------------------------------------------------------- going on


def test_a_run_goes_on_with_its_own_options_and_data():
    words = ("--data", "dots", "--lr", 0.01, "--image-size", 3, "--grey", "--seed", 5, "--sample-every", 0)
    tinygen("train", "toy", "--steps", 9, *words, "--out", "straight")
    tinygen("train", "toy", "--steps", 4, *words, "--out", "run")
    Path("run", f".{'0' * 32}.partial").write_text("left by a kill")
    done = tinygen("train", "toy", "--steps", 9, "--out", "run", "--resume", "--json")
    assert done.document["steps"] == 9 and done.code == 0
    assert_same(Path("run"), Path("straight"))
    assert not list(Path("run").glob("*.partial"))
    again = tinygen("train", "toy", "--steps", 9, *words, "--out", "run", "--resume", "--json")
    assert again.document["metrics"] == done.document["metrics"]


def test_without_out_the_last_run_of_that_name_goes_on():
    for _ in range(2):
        tinygen("train", "toy", *SHORT)
    os.makedirs("runs/toy-10")  # holds no run
    os.makedirs("runs/toy-fish")
    assert tinygen("train", "toy", "--steps", 6, "--resume", "--json").document["out"] == "runs/toy-2"
    assert [checkpoint.read(Path(run)).step for run in ("runs/toy", "runs/toy-2")] == [4, 6]


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, ("toy", "--lr", "0.2"), ["made with --lr 0.05, not 0.2"]),
        (1, ("toy", "--seed", "4"), ["made with --seed 0, not 4"]),
        (1, ("toy", "--data", "plain"), ["made with --data dots, not plain"]),
        (1, ("toy", "--image-size", "8"), ["made with --image-size None, not 8"]),
        (1, ("toy", "--grey"), ["made with --grey False, not True"]),
        (1, ("locked",), ["made with algorithm toy_plugin:toy, not toy_plugin:locked"]),
        (2, ("toy", "--steps", "3"), ["run is at step 4, beyond --steps 3"]),
        (2, ("toy", "--rl", "3"), ["unknown option --rl"]),
    ],
)
def test_a_run_does_not_go_on_as_something_else(code, words, said):
    tinygen("train", "toy", *SHORT, "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    tinygen("train", *words, "--out", "run", "--resume", "--quiet").refused(code, *said)
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_data_that_changed_since_is_told():
    tinygen("train", "toy", *SHORT, "--out", "run")
    saved = checkpoint.read(Path("run"))
    saved.origin.images["count"] = 30
    checkpoint.write(Path("run"), saved)
    tinygen("train", "toy", "--out", "run", "--resume").refused(1, "made with data count 30, not 20", "start a new one")


def test_other_images_of_the_same_number_and_shape_are_told(monkeypatch):
    tinygen("train", "toy", *SHORT, "--out", "run")
    monkeypatch.setenv("TOY_DOTS", "7")  # the seed of the dots
    done = tinygen("train", "toy", "--out", "run", "--resume", "--steps", 6)
    done.refused(
        1, "run: dots holds other images or labels than it was made with", "start a new run with another --out"
    )
    monkeypatch.setenv("TOY_DOTS", "0")
    assert tinygen("train", "toy", "--out", "run", "--resume", "--steps", 6, "--quiet").code == 0


def pictures(folder, *names):
    os.makedirs(folder)
    for shade, name in enumerate(names):
        Image.new("RGB", (4, 4), (40 * shade, 0, 0)).save(Path(folder, name))


def test_a_run_on_a_folder_goes_on_from_anywhere(monkeypatch):
    pictures("here/pictures", "a.png", "b.png", "c.png")
    out = Path("run").absolute()
    monkeypatch.chdir("here")
    assert tinygen("train", "toy", "--data", "folder:pictures", *SHORT[:2], "--quiet", "--out", out).code == 0
    pictures("elsewhere/pictures", "d.png", "e.png", "f.png")
    monkeypatch.chdir("elsewhere")
    assert checkpoint.read(out).origin.data == f"folder:{out.parent / 'here' / 'pictures'}"
    resume = ("train", "toy", "--resume", "--quiet", "--out", out, "--steps", 6)
    assert tinygen(*resume).code == 0
    tinygen(*resume, "--data", "folder:pictures").refused(1, "made with --data folder:", "here/pictures, not folder:")
    monkeypatch.chdir("..")
    assert tinygen(*resume, "--data", "folder:elsewhere/../pictures").code == 0
    os.rename("pictures/a.png", "pictures/z.png")
    tinygen(*resume).refused(1, "holds other images or labels")


def test_another_backend_goes_on_with_a_remark():
    with backend.using("numpy"):
        tinygen("train", "toy", *SHORT, "--out", "run")
        done = tinygen("train", "toy", "--steps", 6, "--out", "run", "--resume", "--backend", "strict")
    assert done.code == 0 and done.err.startswith("made on backend numpy: on strict the last digits will differ")


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_damaged_checkpoint_is_told(damage):
    tinygen("train", "toy", *SHORT, "--out", "run")
    path = Path("run", checkpoint.FILE)
    path.write_bytes(damage(path.read_bytes()))
    tinygen("train", "toy", "--out", "run", "--resume").refused(1, "run/checkpoint.safetensors: damaged")


# ---------------------------------------------------------------- processes that are stopped, and full disks


def process(*words):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    return subprocess.run(
        [sys.executable, "-m", "tinygen", *map(str, words), "-p", PLUGIN],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_step_end_and_saves(name):
    words = ("train", "toy", "--data", "dots", "--sample-every", 0, "--checkpoint-every", 0, "--steps", 10)
    done = process(*words, "--fault", name, "--out", "run")
    assert done.returncode == 1, done
    assert f"stopped by {name} after step 7 of 10, and saved" in done.stderr
    assert "tinygen train toy --out run --steps 10 --resume" in done.stderr and "Traceback" not in done.stderr
    assert checkpoint.read(Path("run")).step == 7 and steps_in("run") == [1, 2, 3, 4, 5, 6, 7]
    assert tinygen(*words, "--out", "run", "--resume", "--quiet").code == 0
    assert tinygen(*words, "--fault", "none", "--out", "straight").code == 0
    saved, straight = checkpoint.read(Path("run")), checkpoint.read(Path("straight"))
    assert all(np.array_equal(saved.arrays[name], straight.arrays[name]) for name in straight.arrays)


def test_what_to_type_next_names_the_plugins_and_data_again(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'plugins'}")
    os.mkdir("my plugins")
    words = ("--data", "dots", "--sample-every", 0, "--plugins-dir", "my plugins", "--data-dir", "far")
    done = process("train", "toy", *words, "--steps", 10, "--fault", "SIGTERM", "--out", "a run")
    again = f"-p {PLUGIN} --plugins-dir 'my plugins' --data-dir far"
    assert f"tinygen train toy --out 'a run' --steps 10 --resume {again}\n" in done.stderr
    hints = tinygen("train", "toy", *words, "--steps", 2, "--out", "b").err.splitlines()[-3:]
    plugins = again.removesuffix(" --data-dir far")
    assert [line.strip() for line in hints] == [
        f"tinygen sample b -n 64 -o grid.png {plugins}", f"tinygen evaluate b {again}",
        f"tinygen train toy --out b --resume --steps 4 {again}",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 1), ("SIGTERM", -signal.SIGTERM)])
def test_a_second_signal_acts_at_once(name, code):
    done = process(
        "train", "toy", *SHORT, "--fault", f"twice {name}", "--at", 3, "--checkpoint-every", 2, "--out", "run"
    )
    assert done.returncode == code and "Traceback" not in done.stderr
    assert checkpoint.read(Path("run")).step == 2


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint():
    words = ("train", "toy", "--data", "dots", "--sample-every", 0, "--checkpoint-every", 2, "--steps", 20)
    done = process(*words, "--fault", "full disk", "--at", 5, "--quiet", "--out", "run")
    assert done.returncode == 1, done
    assert "run/checkpoint.safetensors: cannot be written: File too large" in done.stderr
    assert "free some space" in done.stderr
    assert checkpoint.read(Path("run")).step == 4
    assert sorted(os.listdir("run")) == ["checkpoint.safetensors", "metrics.jsonl"]
