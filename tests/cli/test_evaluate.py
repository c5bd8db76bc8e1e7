"""`tinygen evaluate`: figures for a run, on its own data or on other data of the same shape."""

import pytest

from tests.run import toy_plugin
from tests.run.command import tinygen
from tinygen import plot
from tinygen.data import DataRequest


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Train a short run with the given options. Returns its folder."""

    def call(*words):
        folder = tmp_path_factory.mktemp("trained") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plot, "curves", lambda path, rows: None)
            done = tinygen("train", "toy", "--steps", 3, "--sample-every", 0, "--out", folder, *words)
        assert done.code == 0
        return folder

    return call


@pytest.fixture(scope="module")
def trained(train):
    return train("--data", "dots:few", "--image-size", 5, "--grey")


def brightness(**request):
    return float(toy_plugin.dots(DataRequest(**request)).arrays("test")[0].mean())


def test_figures_are_of_the_runs_own_data(trained):
    document = tinygen("evaluate", trained, "--json").document
    assert (document["name"], document["data"]) == ("toy", "dots")
    assert document["metrics"].keys() == {"brightness", "draw", "updates"}
    assert document["metrics"]["updates"] == 3.0
    assert document["metrics"]["brightness"] == pytest.approx(brightness(size=5, grey=True), rel=1e-6)


def test_a_seed_decides_the_random_numbers(trained):
    draws = [tinygen("evaluate", trained, "--seed", s, "--json").document["metrics"]["draw"] for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_text_is_a_line_a_figure(trained):
    done = tinygen("evaluate", trained)
    assert [line.split()[0] for line in done.out.splitlines()] == ["brightness", "draw", "updates"]
    assert done.out.splitlines()[2] == "updates     3"


def test_other_data_of_the_same_shape_are_taken(trained):
    done = tinygen("evaluate", trained, "--data", "plain", "--image-size", 5, "--grey", "--json")
    assert done.code == 0 and done.document["data"] == "dots"


def test_data_of_another_shape_are_refused_with_what_to_do(trained):
    done = tinygen("evaluate", trained, "--data", "plain")
    done.refused(1, "trained on images of (1, 5, 5)", "has (3, 4, 4)", "--image-size 5 --grey")


def test_an_algorithm_that_needs_no_training_is_evaluated_by_name():
    done = tinygen("evaluate", "stripes", "--data", "dots:few", "--grey", "--json")
    assert done.document == {"name": "stripes", "data": "dots", "metrics": {"count": 10.0, "channels": 1.0}}


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ("toy",), ["toy has to be trained first"]),
        (2, ("stripes", "--data", "dots", "--syze", "3"), ["unknown option --syze", '"--size"']),
        (2, ("stripes", "--data", "dotz"), ['there is no data set "dotz"']),
        (2, ("stripes", "--seed", "-1"), ["--seed must be at least 0"]),
        (1, ("nowhere/run",), ["nowhere/run: there is no run"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    tinygen("evaluate", *words).refused(code, *said)


def test_figures_that_are_no_numbers_are_the_plugins_fault(train):
    folder = train("--data", "dots", "--fault", "wrong figures")
    tinygen("evaluate", folder).refused(3, "toy: evaluate must give numbers by name, got [1, 2]")
