"""`tinygen new`: what it writes runs and passes its checks, as a file and as an installed package; and its refusals."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tinygen.cli import main
from tinygen.host.contract import CAPABILITIES

FIRST = ("train", "sample", "repair", "animate", "evaluate", "adapt", "compose", "stylize")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("tinygen_plugin_", "my_", "waves_")):
            del sys.modules[name]


@pytest.fixture
def tinygen(capsys):
    """Run a command line; gives its exit code, stdout and stderr."""

    def call(*words):
        code = main([*map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_newcomers_walk(here, tinygen):
    """new, check, train, sample; then a sign goes wrong, and the check names the test that sees it."""
    code, out, err = tinygen("new", "my_plugin", "--family", "first-steps")
    assert code == 0
    assert out.split() == ["my_plugin.py", "test_my_plugin.py"]
    assert "tinygen check my_plugin.py" in err and "tinygen train my_plugin -p my_plugin.py" in err
    assert sorted(os.listdir(here)) == ["my_plugin.ledger.json", "my_plugin.py", "test_my_plugin.py"]
    (entry,) = json.loads((here / "my_plugin.ledger.json").read_text())["equations"].values()
    assert entry["tests"]["test_my_plugin.py::test_the_likelihood_is_the_sum_over_the_prototypes"]["examples"] >= 25

    code, out, _ = tinygen("check", "my_plugin.py", "--json")
    document = json.loads(out)
    assert code == 0, [each for each in document["checks"] if each["status"] == "failed"]
    assert document["counts"]["passed"] > 20
    assert "mathematics.tests" in [each["id"] for each in document["checks"] if each["status"] == "passed"]

    options = ("--steps", 5, "--prototypes", 4, "--out", "run", "--quiet", "--seed", 0)
    assert tinygen("train", "my_plugin", "-p", "my_plugin.py", *options)[0] == 0
    code, out, _ = tinygen("sample", "run", "-n", 4, "-p", "my_plugin.py")
    assert code == 0 and (here / out.strip()).is_file()

    source = (here / "my_plugin.py").read_text()
    assert source.count("- F.softplus(a).sum(1)  # (n, K)") == 1
    (here / "my_plugin.py").write_text(source.replace("- F.softplus(a).sum(1)  # (n, K)", "+ F.softplus(a).sum(1)  #"))
    del sys.modules["tinygen_plugin_my_plugin"]
    code, out, _ = tinygen("check", "my_plugin.py", "--json", "--only", "mathematics.tests")
    (failed,) = [each for each in json.loads(out)["checks"] if each["status"] == "failed"]
    assert code == 4 and failed["id"] == "mathematics.tests"
    assert "test_the_likelihood_is_the_sum_over_the_prototypes" in failed["message"]


@pytest.mark.parametrize("name", ["my_names", "my_family", "step", "config", "prototypes"])
def test_a_name_that_the_sources_use_themselves_does_no_harm(here, tinygen, monkeypatch, name):
    """Part of what stands for the name in the templates, or a class that is there already."""
    monkeypatch.setattr("tinygen.cli.new._write_ledger", lambda root, test: True)
    assert tinygen("new", name, "--family", "others")[0] == 0
    source = (here / f"{name}.py").read_text()
    assert f'name="{name}",' in source and 'family="others",' in source
    code, out, _ = tinygen("check", f"{name}.py", "--json", "--only", "contract")
    assert code == 0, [each for each in json.loads(out)["checks"] if each["status"] == "failed"]


@pytest.mark.parametrize("can", [FIRST, ("sample", "animate", "compose", "stylize")], ids=["learnt", "drawn"])
def test_every_verb_that_is_asked_for_passes_its_checks(here, tinygen, monkeypatch, can):
    monkeypatch.setattr("tinygen.cli.new._write_ledger", lambda root, test: True)
    assert tinygen("new", "my-thing", "--can", ",".join(can))[0] == 0
    code, out, _ = tinygen("check", "my_thing.py", "--json", "--only", "contract", "--only", "documents",
                           "--only", "determinism", "--only", "backends")  # fmt: skip
    checks = json.loads(out)["checks"]
    assert code == 0, [each for each in checks if each["status"] == "failed"]
    passed = {each["id"] for each in checks if each["status"] == "passed"}
    assert {f"contract.{verb}" for verb in can} - {"contract.train"} <= passed


def test_a_package_is_built_installed_and_checked_in_a_clean_environment(here, tinygen):
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("pip and setuptools are not installed, so no package can be built here")
    assert tinygen("new", "my-waves", "--package", "--can", "sample")[0] == 0
    project, clean = here / "my-waves", here / "clean"
    assert (project / "my_waves" / "ledger.json").is_file()
    venv.create(clean, with_pip=False)
    python = clean / "bin" / "python"
    site = next((clean / "lib").glob("python*")) / "site-packages"
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *_homes_of_tinygen()}
    (site / "libraries.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in libraries))
    built = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*built, "-w", here / "wheels", project], check=True)
    (wheel,) = (here / "wheels").glob("*.whl")
    installed = [sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(installed, check=True)

    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    found = _run(python, elsewhere, "-m", "tinygen", "list", "--json")
    assert ("my-waves", "my_waves") in [(row["name"], row["provider"]) for row in json.loads(found)]
    document = json.loads(_run(python, elsewhere, "-m", "tinygen", "check", "my-waves", "--json"))
    assert document["counts"]["failed"] == document["counts"]["expected"] == 0
    assert "passed" in _run(python, project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend", "numpy")


def _homes_of_tinygen():
    """Where tinygen and its plugins lie, which is not among the libraries where they are installed editable."""
    return {str(Path(importlib.util.find_spec(name).origin).parents[1]) for name in ("tinygen", "tinygen_plugins")}


def _run(python, folder, *words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    done = subprocess.run([python, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["My_Plugin"], '"My_Plugin" is no name for a plugin'),
        (["class"], '"class" is a word of Python itself'),
        (["gan"], 'there is an algorithm "gan" already, in adversarial'),
        (["json"], '"json" is the name of another Python module'),
        (["numpy"], '"numpy" is the name of another Python module'),
        (["mine", "--can", "trian"], 'did you mean "train"?'),
        (["mine", "--can", ","], "--can names no verb"),
        (["mine", "--can", "repair"], "--can train,repair"),
        (["mine", "--family", "No Family"], '"No Family" is no name'),
    ],
)
def test_what_makes_no_plugin_is_refused_in_one_line(here, tinygen, words, said):
    code, out, err = tinygen("new", *words)
    assert code == 2 and out == "" and said in err and len(err.splitlines()) <= 2
    assert os.listdir(here) == []


def test_nothing_is_overwritten(here, tinygen):
    (here / "test_mine.py").write_text("kept")
    code, _, err = tinygen("new", "mine")
    assert code == 2 and "test_mine.py is there already" in err
    assert os.listdir(here) == ["test_mine.py"] and (here / "test_mine.py").read_text() == "kept"


def test_every_verb_of_the_contract_can_be_asked_for():
    assert set(FIRST) == set(CAPABILITIES)
