"""The toy of these tests, found, loaded and watched."""

from pathlib import Path

import pytest

from tinygen.cli.options import load_data
from tinygen.host import Registry
from tinygen.study.page import study

TOY = Path(__file__).with_name("toy.py")


def data_named(registry):
    return lambda text: load_data(registry, text, None, None, False)


@pytest.fixture(scope="session")
def registry():
    return Registry.discover(plugins=[str(TOY)])


@pytest.fixture(scope="session")
def toy(registry, tmp_path_factory):
    """The Study of the toy."""
    return study(registry.algorithm("toy"), registry, data_named(registry), tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="session")
def gan(registry, tmp_path_factory):
    """The Study of the gan."""
    return study(registry.algorithm("gan"), registry, data_named(registry), tmp_path_factory.mktemp("none"))
