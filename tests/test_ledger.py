"""The ledger that ships with the first-party plugins says what the suite says."""

from pathlib import Path

import pytest

from tinygen.testing.ledger import stale

ROOT = Path(__file__).parents[1]


def test_the_shipped_ledger_is_up_to_date(request):
    if request.config.getoption("--equations"):
        pytest.skip("the ledger is being written")
    differences = stale("tinygen_plugins", ["tests/plugins"], ROOT)
    assert not differences, "write the ledger with: pytest tests/plugins --equations\n" + "\n".join(differences)
