"""Every test of this folder runs on each backend."""

import pytest


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """The fixture `backend` of the pytest plugin, without asking for it in each test."""
