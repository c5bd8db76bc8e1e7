"""The order of the house: imports run one way, only backend.py knows cupy, and every xp name exists there."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tinygen.testing import cupy_names

ROOT = Path(importlib.util.find_spec("tinygen").origin).parent
PLUGINS = Path(importlib.util.find_spec("tinygen_plugins").submodule_search_locations[0])
# Each part may import itself and what stands before it in its line.
ORDER = {
    "errors": (),
    "backend": ("errors",),
    "random": ("errors", "backend"),
    "autograd": ("errors", "backend"),
    "functional": ("errors", "backend", "random", "autograd"),
    "create": ("backend", "autograd"),
    "data": ("errors", "backend", "random", "autograd"),
    "metrics": ("errors", "backend", "random", "autograd", "functional"),
    "plot": ("errors", "backend", "data"),
    "nn": ("errors", "backend", "random", "autograd", "functional"),
    "optim": ("errors", "backend", "random", "autograd", "nn"),
    "host": ("errors",),
    "run": ("errors", "backend", "random", "autograd", "functional", "nn", "optim", "data", "plot", "host", "create"),
}
ORDER["cli"] = (*ORDER["run"], "run", "metrics")
ORDER["testing"] = tuple(ORDER)
LAZY = {("backend", "testing")}  # a string in a table, imported when the strict backend is asked for


def files(folder):
    return sorted(p for p in folder.rglob("*.py"))


def imports(path, package):
    """Modules that a file imports at run time (blocks under TYPE_CHECKING do not run)."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", files(ROOT), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    for name in imports(path, "tinygen"):
        if name.startswith("tinygen."):
            other = name.split(".")[1]
            if other in ORDER:
                assert other == part or other in ORDER[part], f"{part} may not import {other}"


@pytest.mark.parametrize("path", files(ROOT) + files(PLUGINS), ids=lambda p: p.name)
def test_only_the_backend_knows_cupy(path):
    allowed = path.name in ("backend.py", "cupy_names.py", "doctor.py")
    assert allowed or not any(n.split(".")[0] in ("cupy", "cupyx") for n in imports(path, ""))


@pytest.mark.parametrize("path", files(PLUGINS), ids=lambda p: p.name)
def test_plugins_do_not_import_each_others_internals(path):
    family = path.relative_to(PLUGINS).parts[0]
    for name in imports(path, ""):
        if name.startswith("tinygen_plugins."):
            assert name.split(".")[1] == family, f"{family} imports {name}"


def test_formulas_do_not_import_numpy():
    for path in files(ROOT / "functional") + files(ROOT / "nn") + files(PLUGINS):
        used = {n.split(".")[0] for n in imports(path, "")}
        reads_host_arrays = path.name == "module.py"  # state_dict speaks NumPy by contract
        assert reads_host_arrays or "numpy" not in used, f"{path} imports numpy; take xp from the backend"


def xp_uses(path):
    """(name, keywords, line) of each xp.… in a file; linalg and fft with their prefix."""
    tree = ast.parse(path.read_text())
    called = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            found = re.fullmatch(r"(?:\w+\.)*(?:xp|_xp\(\w+\)|_xp_of\(.*?\))\.((?:linalg\.|fft\.)?\w+)", text)
            if found and found[1] not in ("linalg", "fft"):
                call = called.get(id(node))
                keywords = [k.arg for k in call.keywords if k.arg] if call else []
                yield found[1], keywords, node.lineno


def test_every_xp_name_and_keyword_is_cupys():
    known, seen = cupy_names.known()["functions"], 0
    for path in files(ROOT) + files(PLUGINS):
        for name, keywords, line in xp_uses(path):
            seen += 1
            assert name in known, f"{path}:{line}: cupy has no {name}"
            allowed = known[name]
            for keyword in keywords:
                assert allowed is None or keyword in allowed or "kwargs" in allowed, (
                    f"{path}:{line}: cupy.{name} takes no {keyword}"
                )
    assert seen > 60  # the scan sees something


def test_the_list_of_cupy_names_is_that_of_the_installed_cupy():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("cupy is not installed, so its names cannot be compared (pip install tinygen[test])")
    import cupy

    known = cupy_names.known()
    if cupy.__version__ != known["version"]:
        pytest.skip(f"the list is of cupy {known['version']}, installed is {cupy.__version__}: write it anew")
    assert cupy_names.installed() == known
