"""docs/operations.md is what the docstrings say, and they say what a page of reference must."""

import inspect
import re

import pytest

from tests import operations
from tinygen import functional as F

# what they return has no gradient
WITHOUT_DERIVATIVE = {"argmax", "argmin", "one_hot"}


def test_the_page_is_up_to_date():
    written = operations.PAGE.read_text(encoding="utf-8")
    assert written == operations.page(), "write it with: python -m tests.operations"


@pytest.mark.parametrize("name", sorted(F.__all__))
def test_an_operation_tells_its_derivative(name):
    text = inspect.getdoc(getattr(F, name)) or ""
    assert text
    if name not in WITHOUT_DERIVATIVE:
        assert re.search(r"\bg[a-z]\w*|[Gg]radient", text), f"{name}: the docstring tells no derivative"


def test_the_rows_belong_to_operations():
    by_operation = operations.rows()
    assert set(by_operation) == set(F.__all__)
    assert sum(len(rows) for rows in by_operation.values()) >= 203
