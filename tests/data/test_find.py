"""Data folders and the files in them."""

from __future__ import annotations

import os

import pytest

from tinygen.data.find import data_folders, find
from tinygen.errors import DataError

from .expect import refused


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_folders_stand_in_the_order_of_the_search(monkeypatch, tmp_path):
    cache = str(tmp_path / "cache" / "tinygen")
    assert data_folders() == (cache,)
    monkeypatch.setenv("TINYGEN_DATA", "/data")
    assert data_folders() == ("/data", cache)
    assert data_folders("mine") == ("mine", "/data", cache)


def test_an_empty_variable_counts_as_none(monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert data_folders() == (os.path.expanduser("~/.cache/tinygen"),)


def test_the_first_folder_that_has_the_file_wins(tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    for folder in (first, second):
        os.makedirs(os.path.join(folder, "mnist"))
    in_second = tmp_path / "second" / "mnist" / "a.gz"
    in_second.write_bytes(b"")
    assert find("mnist", "a.gz", (first, second)) == in_second
    in_first = tmp_path / "first" / "mnist" / "a"  # unpacked
    in_first.write_bytes(b"")
    assert find("mnist", "a.gz", (first, second)) == in_first


def test_the_packed_file_goes_before_the_unpacked(tmp_path):
    (tmp_path / "mnist").mkdir()
    for name in ("a", "a.gz"):
        (tmp_path / "mnist" / name).write_bytes(b"")
    assert find("mnist", "a.gz", (str(tmp_path),)).name == "a.gz"


def test_a_missing_file_is_told_with_its_place(tmp_path):
    (tmp_path / "fashion_mnist" / "labels.gz").mkdir(parents=True)  # a folder of that name is no file
    place = os.path.join(str(tmp_path), "fashion_mnist", "")
    hint = f"put labels.gz into {place} or set TINYGEN_DATA to the folder that holds fashion_mnist/"
    with refused(DataError, "data fashion-mnist: labels.gz is not in", "elsewhere", hint):
        find("fashion_mnist", "labels.gz", (str(tmp_path), "elsewhere"))


def test_without_folders_the_usual_ones_are_searched(monkeypatch, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "a").write_bytes(b"")
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    assert find("mnist", "a") == tmp_path / "mnist" / "a"
