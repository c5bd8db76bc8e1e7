"""Sources of small plugins for the tests of the host, and a function that writes them."""

from pathlib import Path

HEAD = "from tinygen.host import AlgorithmSpec, DatasetSpec, hookimpl\n"


def algorithm(name: str, module: str = "toy", extra: str = "") -> str:
    """The source of a spec."""
    return (
        f'AlgorithmSpec(name="{name}", family="toys", summary="A toy.", factory="{module}:Toy", '
        f'config="{module}:Config", verbs=("sample",){extra})'
    )


def dataset(name: str, module: str = "toy") -> str:
    return f'DatasetSpec(name="{name}", summary="Toy data.", factory="{module}:data")'


def plugin(*specs: str, hook: str = "tinygen_algorithms") -> str:
    """The source of a plugin whose one hook returns these specs."""
    return f"{HEAD}\n@hookimpl\ndef {hook}():\n    return [{', '.join(specs)}]\n"


TOY = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    """Options."""

    size: int = 8
    """Pixels a side."""
    rate: float = 1e-3

class Toy:
    pass
'''


def write(path: Path, source: str) -> str:
    """Write a file, with the folders above it. Returns its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return str(path)


def rows_of(registry, provider):
    return [row for row in registry.rows if row.provider == provider]


def only_row(registry, provider):
    (row,) = rows_of(registry, provider)
    return row
