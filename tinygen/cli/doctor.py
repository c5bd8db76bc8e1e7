"""`tinygen doctor`: what this installation has and lacks, one section a function, top to bottom as printed."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable
from typing import Any

import tinygen
from tinygen.cli import frame
from tinygen.cli.data import describe_all
from tinygen.cli.list import row_document
from tinygen.errors import TinygenError
from tinygen.host.contract import DatasetSpec
from tinygen.host.providers import describe, location

HELP = "Tell what this installation has and lacks: versions, BLAS, backends, data sets, plugins."

REQUIRED = (
    "numpy",
    "scipy",
    "pluggy",
    "matplotlib",
    "pillow",
    "safetensors",
    "tyro",
    "rich",
    "markdown-it-py",
    "threadpoolctl",
)
OPTIONAL = ("cupy-cuda12x", "cupy-cuda13x", "cupy", "pytest", "pytest-xdist", "hypothesis")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
BACKENDS = ("numpy", "cupy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> int:
    registry = frame.registry(args)
    packages = installed_versions()
    backends = [try_backend(name) for name in BACKENDS]
    data = describe_data(registry.datasets.values())
    document = {
        "tinygen": tinygen.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": count_cores(),
        "packages": packages,
        "blas": describe_blas(),
        "backends": backends,
        "data": data,
        "plugins": [row_document(row) for row in registry.rows],
    }
    broken = [row.provider for row in registry.rows if row.status == "broken"]
    problems = [f"{name} is not installed" for name in REQUIRED if packages[name] is None]
    problems += [f"backend numpy: {each['reason']}" for each in backends if each["name"] == "numpy" and each["reason"]]
    problems += [data["reason"]] if data["reason"] else []
    problems += [f"plugin {provider} is broken" for provider in broken]
    document["problems"] = problems
    out.result(document, _text(document, out))
    if broken:
        return 3
    return 1 if problems else 0


# ---------------------------------------------------------------- what is asked


def installed_versions() -> dict[str, str | None]:
    """The version of each package that tinygen uses; None for one that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for name in (*REQUIRED, *OPTIONAL):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def count_cores() -> dict[str, int | None]:
    """The machine's cores, and those that this process may use (None where the system does not tell)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {"machine": os.cpu_count(), "usable": usable}


def describe_blas() -> dict[str, Any]:
    """The linear algebra library that NumPy was built with, and the variables that limit its threads."""
    threads = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    try:
        import numpy
    except ImportError as error:
        return {"name": None, "version": None, "threads": threads, "reason": describe(error, "")}
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"name": blas.get("name"), "version": blas.get("version"), "threads": threads}


def try_backend(name: str) -> dict[str, Any]:
    """Whether a backend can be used, and why not."""
    try:
        from tinygen import backend

        backend.get(name)
    except TinygenError as error:
        return {"name": name, "available": False, "reason": str(error)}
    except Exception as error:  # a half-installed CuPy raises whatever its loader raises
        return {"name": name, "available": False, "reason": describe(error, location(error))}
    return {"name": name, "available": True, "reason": ""}


def describe_data(specs: Iterable[DatasetSpec]) -> dict[str, Any]:
    """The data folders, and for each data set the files that are missing and where to put them."""
    try:
        from tinygen.data.find import data_folders
    except ImportError as error:
        return {"folders": [], "sets": [], "reason": f"data sets cannot be read: {describe(error, location(error))}"}
    folders = [{"path": folder, "exists": os.path.isdir(folder)} for folder in data_folders()]
    told = ("name", "ready", "missing", "hint")
    sets = [{name: row[name] for name in told} for row in describe_all(specs)]
    return {"folders": folders, "sets": sets, "reason": ""}


# ---------------------------------------------------------------- text


def _text(document: dict[str, Any], out: frame.Output) -> str:
    cores, blas = document["cores"], document["blas"]
    threads = ", ".join(f"{name}={value or 'not set'}" for name, value in blas["threads"].items())
    lines = [
        _title("system", out),
        f"  tinygen {document['tinygen']}, Python {document['python']}, {document['platform']}",
        f"  {cores['machine']} cores, {cores['usable'] or cores['machine']} of them usable",
        f"  BLAS: {blas['name']} {blas['version']}; {threads}",
        _title("packages", out),
        *(f"  {name:<14}{version or '-'}" for name, version in document["packages"].items()),
        _title("backends", out),
        *(_status_line(each["name"], each["available"], each["reason"], out) for each in document["backends"]),
        _title("data", out),
        *(f"  {'' if each['exists'] else 'no '}folder {each['path']}" for each in document["data"]["folders"]),
    ]
    for each in document["data"]["sets"]:
        lines.append(_status_line(each["name"], each["ready"], f"missing {', '.join(each['missing'])}", out))
        lines += [f"    hint: {each['hint']}"] if each["hint"] else []
    lines.append(_title("plugins", out))
    for row in document["plugins"]:
        lines.append(_status_line(row["name"], row["status"] == "ok", f"{row['status']}: {row.get('reason')}", out))
        lines += [f"    hint: {row['hint']}"] if "hint" in row else []
    verdict = "; ".join(document["problems"]) or "nothing is wrong"
    return "\n".join([*lines, "", out.style(verdict, "red" if document["problems"] else "green")])


def _title(text: str, out: frame.Output) -> str:
    return out.style(text, "bold")


def _status_line(name: str, fine: bool, otherwise: str, out: frame.Output) -> str:
    return f"  {name:<16}{out.style('ok', 'green') if fine else out.style(otherwise, 'yellow')}"
