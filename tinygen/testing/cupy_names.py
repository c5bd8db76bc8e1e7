"""What CuPy offers: its names, the keywords of its functions and the attributes of its arrays, kept in a file.

The strict backend reads the file, so that it needs no CuPy; `python -m tinygen.testing.cupy_names` writes it anew from
the CuPy that is installed (a GPU is not needed), and a test holds the two together.
"""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("cupy_names.json")
MODULES = ("", "linalg", "fft")
UFUNC_KEYWORDS = ["casting", "dtype", "out"]


@cache
def known() -> dict[str, Any]:
    """{"functions": {"sum": [parameters] or null for a value or type, "linalg.svd": …}, "array": [attributes]}."""
    return json.loads(FILE.read_text())


def installed() -> dict[str, Any]:
    """The same, asked of the CuPy at hand."""
    import cupy

    functions: dict[str, list[str] | None] = {}
    for module_name in MODULES:
        module = getattr(cupy, module_name) if module_name else cupy
        prefix = f"{module_name}." if module_name else ""
        for name in sorted(set(dir(module))):
            value = getattr(module, name, None)
            if name.startswith("_") or inspect.ismodule(value):
                continue
            functions[prefix + name] = _parameters(value, cupy.ufunc)
    attributes = sorted(n for n in dir(cupy.ndarray) if not n.startswith("_"))
    return {"version": cupy.__version__, "functions": functions, "array": attributes}


def _parameters(value: Any, ufunc: type) -> list[str] | None:
    if isinstance(value, ufunc):
        return UFUNC_KEYWORDS
    if not callable(value) or inspect.isclass(value):
        return None
    try:
        return sorted(inspect.signature(value).parameters)
    except ValueError:
        return None


if __name__ == "__main__":
    FILE.write_text(json.dumps(installed(), indent=None, separators=(",", ":"), sort_keys=True) + "\n")
