"""`tinygen doctor`: one document about the installation, even about a broken one."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.host.plugin_files import write
from tinygen.cli import doctor, main
from tinygen.host.builtin import FOUR_IDX_FILES

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def ask(capsys, monkeypatch, tmp_path):
    """Run the doctor in this process, without CuPy, on a machine without data."""
    monkeypatch.setattr(doctor, "BACKENDS", ("numpy",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("TINYGEN_DATA", "TINYGEN_PLUGINS_DIR", "TINYGEN_DISABLE"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv):
        code = main(["doctor", *argv])
        out = capsys.readouterr().out
        return code, json.loads(out) if "--json" in argv else out

    return call


def test_the_document_of_a_sound_installation(ask):
    code, document = ask("--json")
    assert code == 0
    assert document["problems"] == []
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    assert document["packages"]["numpy"].startswith("2.")
    assert document["cores"]["machine"] >= 1
    assert document["blas"]["name"]
    assert document["backends"] == [{"name": "numpy", "available": True, "reason": ""}]
    assert {row["status"] for row in document["plugins"]} <= {"ok"}
    code, text = ask()
    assert code == 0
    assert text.endswith("nothing is wrong\n")


def test_threads_are_told_as_they_are_set(ask, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    _, document = ask("--json")
    assert document["blas"]["threads"]["OPENBLAS_NUM_THREADS"] == "7"
    assert document["blas"]["threads"]["OMP_NUM_THREADS"] is None
    assert "OPENBLAS_NUM_THREADS=7, OMP_NUM_THREADS=not set" in ask()[1]


def data_set(document, name):
    return next(each for each in document["data"]["sets"] if each["name"] == name)


def test_missing_files_are_named_with_their_place(ask, tmp_path):
    _, document = ask("--json")
    mnist = data_set(document, "mnist")
    assert (mnist["ready"], mnist["missing"]) == (False, list(FOUR_IDX_FILES))
    assert str(tmp_path / "cache" / "tinygen" / "mnist") in mnist["hint"]
    assert str(tmp_path / "cache" / "tinygen" / "fashion_mnist") in data_set(document, "fashion-mnist")["hint"]
    assert data_set(document, "glyphs") == {"name": "glyphs", "ready": True, "missing": [], "hint": ""}
    assert "missing train-images-idx3-ubyte.gz" in ask()[1]


def test_files_that_are_there_are_found_packed_or_not(ask, tmp_path, monkeypatch):
    names = [FOUR_IDX_FILES[0].removesuffix(".gz"), *FOUR_IDX_FILES[1:3]]
    for name in names:
        write(tmp_path / "data" / "mnist" / name, "")
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    _, document = ask("--json")
    assert data_set(document, "mnist")["missing"] == [FOUR_IDX_FILES[3]]
    assert document["data"]["folders"][0] == {"path": str(tmp_path / "data"), "exists": True}
    write(tmp_path / "data" / "mnist" / FOUR_IDX_FILES[3], "")
    assert data_set(ask("--json")[1], "mnist")["ready"]


def test_a_broken_plugin_is_a_problem_with_its_own_exit_code(ask, tmp_path):
    file = write(tmp_path / "torn.py", "1 / 0\n")
    code, document = ask("--json", "-p", file)
    assert code == 3
    assert document["problems"] == ["plugin torn is broken"]
    assert document["plugins"][-1]["reason"] == f"ZeroDivisionError: division by zero ({file}:1)"
    code, text = ask("-p", file)
    assert code == 3
    assert "hint: mend it, or leave it out with --disable torn" in text


def test_a_missing_package_is_a_problem(ask, monkeypatch):
    monkeypatch.setattr(doctor, "REQUIRED", (*doctor.REQUIRED, "tinygen-has-no-such-package"))
    code, document = ask("--json")
    assert code == 1
    assert document["problems"] == ["tinygen-has-no-such-package is not installed"]


def test_it_asks_for_what_the_project_requires():
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert [re.match(r"[\w-]+", need)[0] for need in project["dependencies"]] == list(doctor.REQUIRED)


def test_a_backend_that_cannot_load_is_explained():
    assert doctor.try_backend("nunpy") == {
        "name": "nunpy", "available": False, "reason": 'backend "nunpy" is unknown (did you mean "numpy"?)',
    }  # fmt: skip


def run_process(environment):
    done = subprocess.run(
        [sys.executable, "-m", "tinygen", "doctor", "--json"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_cupy_is_there_or_the_reason_is_told():
    code, document = run_process({"TINYGEN_DISABLE": "", "TINYGEN_PLUGINS_DIR": ""})
    assert code == 0
    cupy = document["backends"][1]
    assert cupy["name"] == "cupy"
    assert cupy["available"] != bool(cupy["reason"])


def test_the_doctor_works_where_numpy_does_not(tmp_path):
    write(tmp_path / "numpy" / "__init__.py", "raise ImportError('no such library: libopenblas')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    code, document = run_process({"PYTHONPATH": path})
    assert code == 1
    assert document["blas"]["reason"] == "ImportError: no such library: libopenblas"
    assert document["problems"][0].startswith("backend numpy: ImportError: no such library: libopenblas")
    assert document["problems"][1].startswith("data sets cannot be read: ImportError: no such library: libopenblas")
