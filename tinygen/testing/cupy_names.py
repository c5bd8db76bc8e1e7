"""What CuPy offers: its names, the parameters of its functions and of its arrays' methods, kept in a file.

The strict backend reads the file, so that it needs no CuPy; `python -m tinygen.testing.cupy_names` writes it anew from
the CuPy that is installed (a GPU is not needed), and a test holds the two together.
"""

from __future__ import annotations

import inspect
import json
import operator
import re
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("cupy_names.json")
MODULES = ("", "linalg", "fft", "lib.stride_tricks")
UFUNC_KEYWORDS = ["casting", "dtype", "out"]


@cache
def known() -> dict[str, Any]:
    """{"functions": {"sum": [parameters] or null for a value or type, "linalg.svd": …}, "array": {"sum": as before}}.

    An array's methods have their parameters in order; "*" stands before one that takes all that follows.
    """
    return json.loads(FILE.read_text())


def installed() -> dict[str, Any]:
    """The same, asked of the CuPy at hand."""
    import cupy

    functions: dict[str, list[str] | None] = {}
    for module_name in MODULES:
        module = operator.attrgetter(module_name)(cupy) if module_name else cupy
        prefix = f"{module_name}." if module_name else ""
        for name in sorted(set(dir(module))):
            value = getattr(module, name, None)
            if name.startswith("_") or inspect.ismodule(value):
                continue
            functions[prefix + name] = _parameters(value, cupy.ufunc)
    names = [name for name in dir(cupy.ndarray) if not name.startswith("_")]
    methods = {name: _method_parameters(getattr(cupy.ndarray, name)) for name in names}
    return {"version": cupy.__version__, "functions": functions, "array": methods}


def _parameters(value: Any, ufunc: type) -> list[str] | None:
    if isinstance(value, ufunc):
        return UFUNC_KEYWORDS
    if not callable(value) or inspect.isclass(value):
        return None
    try:
        return sorted(inspect.signature(value).parameters)
    except ValueError:
        return None


def _method_parameters(value: Any) -> list[str] | None:
    """The parameters of a method of arrays, which compiled code tells in the first line of its docstring alone."""
    found = re.match(r"\w+\.\w+\(self(?:, (.*))?\)(?: -> \w+)?$", (value.__doc__ or "").partition("\n")[0])
    if not callable(value) or not found:
        return None
    return [each.partition("=")[0].split()[-1] for each in (found[1] or "").split(", ") if each]


if __name__ == "__main__":
    FILE.write_text(json.dumps(installed(), indent=None, separators=(",", ":"), sort_keys=True) + "\n")
