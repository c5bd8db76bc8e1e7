"""The order of the house: imports run one way, only backend.py knows cupy, and every xp name exists there."""

import ast
import importlib.util
from pathlib import Path

import pytest

from tinygen.testing import cupy_names

ROOT = Path(importlib.util.find_spec("tinygen").origin).parent
PLUGINS = Path(importlib.util.find_spec("tinygen_plugins").submodule_search_locations[0])
# Each part may import itself and what stands before it in its line.
ORDER = {
    "errors": (),
    "parallel": (),
    "im2col": ("parallel",),
    "cpu": ("parallel",),
    "backend": ("errors", "parallel", "im2col", "cpu"),
    "random": ("errors", "backend"),
    "autograd": ("errors", "backend"),
    "functional": ("errors", "backend", "random", "autograd"),
    "create": ("backend", "autograd"),
    "data": ("errors", "backend", "random", "autograd"),
    "metrics": ("errors", "backend", "random", "autograd", "functional"),
    "plot": ("errors", "backend", "data"),
    "nn": ("errors", "backend", "random", "autograd", "functional"),
    "distributions": ("errors", "backend", "random", "autograd", "functional"),
    "optim": ("errors", "backend", "random", "autograd", "nn"),
    "host": ("errors",),
    "run": (
        "errors", "backend", "random", "autograd", "functional", "nn", "optim", "data", "metrics", "plot", "host",
        "create",
    ),
}  # fmt: skip
ORDER["study"] = (*ORDER["run"], "run")
ORDER["testing"] = tuple(ORDER)
ORDER["cli"] = (*ORDER["run"], "run", "study", "testing")
TOP = ("__init__", "__main__")  # the package's front, which hands names on when they are asked for
ALL = sorted(ROOT.rglob("*.py")) + sorted(PLUGINS.rglob("*.py"))


def name_of(path):
    """The file as what is imported has it: tinygen/nn/module.py."""
    return path.relative_to(ROOT.parent if path.is_relative_to(ROOT) else PLUGINS.parent).as_posix()


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
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


def test_every_part_has_its_place_in_the_order():
    assert {part_of(p) for p in ROOT.rglob("*.py")} == {*ORDER, *TOP}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=name_of)
def test_imports_run_one_way(path):
    part = part_of(path)
    for name in imports(path):
        package, _, rest = name.partition(".")
        assert package != "tinygen_plugins", f"{part} imports {name}, but the core knows no algorithm"
        if package != "tinygen" or part in TOP:
            continue
        other = rest.partition(".")[0]
        if other in ("", "__version__"):  # `import tinygen` reaches every part, so it is the command line's alone
            assert part == "cli" or other, f"{part} may not import tinygen as a whole"
        else:
            assert other in (part, *ORDER[part]), f"{part} may not import {other}"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_only_the_backend_knows_cupy(path):
    allowed = ("tinygen/backend.py", "tinygen/testing/cupy_names.py")  # the second writes down CuPy's names
    assert name_of(path) in allowed or not {"cupy", "cupyx"} & {n.split(".")[0] for n in imports(path)}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=name_of)
def test_plugins_do_not_import_each_others_internals(path):
    family = path.relative_to(PLUGINS).parts[0]
    for name in imports(path):
        if name.startswith("tinygen_plugins."):
            assert name.split(".")[1] == family, f"{family} imports {name}"


def test_formulas_do_not_import_numpy():
    for path in [*(ROOT / "functional").rglob("*.py"), *(ROOT / "nn").rglob("*.py"), *PLUGINS.rglob("*.py")]:
        used = {n.split(".")[0] for n in imports(path)}
        reads_host_arrays = name_of(path) == "tinygen/nn/module.py"  # state_dict speaks NumPy by contract
        assert reads_host_arrays or "numpy" not in used, f"{path} imports numpy; take xp from the backend"


def is_xp(node):
    """True for `xp`, `….xp` of anything and `_xp(…)`: what the code calls the array library."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", None) == "_xp"
    return "xp" in (getattr(node, "attr", None), getattr(node, "id", None))


def name_in_xp(node):
    """The dotted name of an attribute of xp, or None."""
    names = []
    while isinstance(node, ast.Attribute) and not is_xp(node):
        names.append(node.attr)
        node = node.value
    return ".".join(reversed(names)) if names and is_xp(node) else None


def xp_uses(tree):
    """(name, keywords, line) of each name taken from xp; those of its modules with their prefix."""
    modules = {module.rsplit(".", i)[0] for module in cupy_names.MODULES for i in range(module.count(".") + 1)}
    called = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        name = name_in_xp(node)
        if name is not None and name not in modules and name.rpartition(".")[0] in modules:
            call = called.get(id(node))
            yield name, [k.arg for k in call.keywords if k.arg] if call else [], node.lineno


def test_the_scan_sees_every_way_to_write_xp():
    for way in ("xp", "self.xp", "x.backend.xp", "of(x).xp", "of(x.data).xp", "f(a, b)[0].xp", "_xp(x)", "_xp(x.data)"):
        code = f"{way}.sum(x, axis=0); {way}.linalg.svd(x); y = {way}.pi; {way}.lib.stride_tricks.as_strided(x)"
        names = [("lib.stride_tricks.as_strided", []), ("linalg.svd", []), ("pi", []), ("sum", ["axis"])]
        assert sorted(xp_uses(ast.parse(code))) == [(name, keywords, 1) for name, keywords in names], way
    assert not list(xp_uses(ast.parse("exp.sum(x); of(x).exp(x); self._exp(x).mean()")))


def test_every_xp_name_and_keyword_is_cupys():
    known, seen = cupy_names.known()["functions"], 0
    for path in ALL:
        for name, keywords, line in xp_uses(ast.parse(path.read_text())):
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
