"""The plugin host: what a plugin promises (contract), its hooks, its equations, the checks of its options, and the
registry that finds it.

Everything a plugin's `__init__.py` needs is here, and importing it imports no array library.
"""

from tinygen.host.checks import check_choice, check_range
from tinygen.host.contract import (
    API,
    CAPABILITIES,
    Adapter,
    AlgorithmSpec,
    Animator,
    Checks,
    Composer,
    Curves,
    DatasetSpec,
    Evaluable,
    Illustrator,
    Judge,
    Repairer,
    Sampler,
    Source,
    Step,
    Stylizer,
    Trainable,
    verbs_of,
)
from tinygen.host.equation import Equation, equation, equation_of, equations_in, ledger_path, verifies
from tinygen.host.hookspecs import hookimpl, hookspec
from tinygen.host.registry import Registry, Row

__all__ = [
    "API",
    "CAPABILITIES",
    "Adapter",
    "AlgorithmSpec",
    "Animator",
    "Checks",
    "Composer",
    "Curves",
    "DatasetSpec",
    "Equation",
    "Evaluable",
    "Illustrator",
    "Judge",
    "Registry",
    "Repairer",
    "Row",
    "Sampler",
    "Source",
    "Step",
    "Stylizer",
    "Trainable",
    "check_choice",
    "check_range",
    "equation",
    "equation_of",
    "equations_in",
    "hookimpl",
    "hookspec",
    "ledger_path",
    "verbs_of",
    "verifies",
]
