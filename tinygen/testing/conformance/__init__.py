"""The conformance kit: what is asked of every algorithm, as `tinygen check` and as tests of a plugin's own suite.

    from tinygen.testing import conformance_tests

    test_my_plugin = conformance_tests("my_plugin")        # an algorithm's name, or the path of a plugin

`kit` says what a check is; each group of them is a file: contract, mathematics, training, determinism, backends,
documents. `subject` is what they look at, `probe` takes a training step apart, `where` finds the line.
"""

import importlib

from tinygen.testing.conformance.kit import CHECKS, GROUPS, Check, Result, as_document, chosen, run_check, run_checks
from tinygen.testing.conformance.subject import Finding, Subject
from tinygen.testing.conformance.suite import conformance_tests, find_subjects

for _group in GROUPS:  # each enters its checks, in the order in which they are asked
    importlib.import_module(f"{__name__}.{_group}")

__all__ = [
    "CHECKS",
    "GROUPS",
    "Check",
    "Finding",
    "Result",
    "Subject",
    "as_document",
    "chosen",
    "conformance_tests",
    "find_subjects",
    "run_check",
    "run_checks",
]
