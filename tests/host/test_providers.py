"""Providers: plugins are found in every place where they may be, once each, and disabled ones are not imported."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.host.plugin_files import TOY, algorithm, only_row, plugin, rows_of, write
from tinygen.errors import UsageError
from tinygen.host import Registry
from tinygen.host.providers import find_providers


def test_core_brings_its_data_sets_by_the_hook():
    registry = Registry.discover()
    assert {"glyphs", "mnist", "fashion-mnist", "folder"} <= set(registry.datasets)
    assert registry.dataset("mnist").folder == "mnist"
    assert registry.dataset("core:mnist") is registry.dataset("mnist")


def test_a_file_is_a_plugin_and_its_specs_may_name_it_by_its_stem(tmp_path):
    source = plugin(algorithm("one", "my_plugin"), algorithm("two", "other_module")) + TOY
    registry = Registry.discover(plugins=[write(tmp_path / "my_plugin.py", source)])
    assert [(row.name, row.status) for row in rows_of(registry, "my_plugin")] == [("one", "ok"), ("two", "ok")]
    one = registry.algorithm("one")
    assert registry.load(one.factory).__name__ == "Toy"
    assert registry.load(one.config)().size == 8
    assert "my_plugin" not in sys.modules  # a file must not shadow a module of that name
    assert registry.algorithm("two").factory == "other_module:Toy"


def test_a_file_may_refer_to_itself_by_its_module_name(tmp_path):
    source = plugin(algorithm("one", "NAME")).replace('"NAME:', 'f"{__name__}:') + TOY
    registry = Registry.discover(plugins=[write(tmp_path / "named.py", source)])
    assert registry.load(registry.algorithm("one").factory).__name__ == "Toy"


def test_a_file_whose_stem_is_no_identifier(tmp_path):
    source = plugin(algorithm("one", "NAME")).replace('"NAME:', 'f"{__name__}:') + TOY
    registry = Registry.discover(plugins=[write(tmp_path / "my plugin-1.py", source)])
    assert only_row(registry, "my plugin-1").status == "ok"
    assert registry.load(registry.algorithm("one").factory).__name__ == "Toy"


def test_a_package_folder_is_a_plugin(tmp_path):
    write(tmp_path / "pack" / "__init__.py", plugin(algorithm("one", "pack.model")))
    write(tmp_path / "pack" / "model.py", "from .parts import Part\n" + TOY)
    write(tmp_path / "pack" / "parts.py", "class Part: pass\n")
    registry = Registry.discover(plugins=[str(tmp_path / "pack")])
    assert registry.load(registry.algorithm("one").factory).__name__ == "Toy"


def test_a_dotted_module_is_a_plugin(tmp_path, monkeypatch):
    write(tmp_path / "toy_package" / "__init__.py", "")
    write(tmp_path / "toy_package" / "plug.py", plugin(algorithm("one")))
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.discover(plugins=["toy_package.plug"])
    assert only_row(registry, "toy_package.plug").name == "one"


def folder_of_plugins(tmp_path):
    write(tmp_path / "b_file.py", plugin(algorithm("from-file")))
    write(tmp_path / "a_package" / "__init__.py", plugin(algorithm("from-package")))
    write(tmp_path / "_helper.py", "raise RuntimeError('helpers are not plugins')")
    write(tmp_path / "no_package" / "file.py", "raise RuntimeError('not a package')")
    write(tmp_path / "notes.txt", "not Python")
    return str(tmp_path)


def test_a_folder_gives_its_files_and_packages_in_the_order_of_their_names(tmp_path):
    registry = Registry.discover(folders=[folder_of_plugins(tmp_path)])
    names = [row.name for row in registry.rows if row.family == "toys"]
    assert names == ["from-package", "from-file"]
    assert all(row.status == "ok" for row in registry.rows)


def test_folders_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_PLUGINS_DIR", os.pathsep.join(["", folder_of_plugins(tmp_path / "x")]))
    assert Registry.discover().algorithm("from-file").family == "toys"


def test_a_missing_folder_of_the_environment_is_a_broken_row(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_PLUGINS_DIR", str(tmp_path / "gone"))
    row = only_row(Registry.discover(), "gone")
    assert row.status == "broken"
    assert "no such folder" in row.reason
    assert "TINYGEN_PLUGINS_DIR" in row.hint


@pytest.mark.parametrize(
    "asked", [{"plugins": ["gone.py"]}, {"plugins": ["a/b"]}, {"plugins": ["gone"]}, {"folders": ["gone"]}]
)
def test_a_missing_path_of_the_command_line_is_a_usage_error(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such"):
        Registry.discover(**asked)


def test_a_path_that_is_no_plugin_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"expected a \.py file"):
        Registry.discover(plugins=[write(tmp_path / "notes.txt", "")])


def entry_point(folder, name, value):
    """Install an entry point as pip does: by the metadata of a distribution."""
    write(folder / f"{name}-1.0.dist-info" / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    write(folder / f"{name}-1.0.dist-info" / "entry_points.txt", f"[tinygen]\n{name} = {value}\n")


def test_entry_points_are_found_and_broken_ones_are_rows(tmp_path, monkeypatch):
    write(tmp_path / "toy_installed.py", plugin(algorithm("installed")))
    entry_point(tmp_path, "good", "toy_installed")
    entry_point(tmp_path, "bad", "toy_absent_module")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.discover()
    assert only_row(registry, "good").name == "installed"
    assert only_row(registry, "bad").reason == "ModuleNotFoundError: No module named 'toy_absent_module'"


def test_first_party_families_are_found_by_walking_their_package(tmp_path):
    write(tmp_path / "tinygen_plugins" / "__init__.py", "")
    write(tmp_path / "tinygen_plugins" / "family" / "__init__.py", plugin(algorithm("grouped")))
    write(tmp_path / "tinygen_plugins" / "single.py", plugin(algorithm("alone")))
    write(tmp_path / "tinygen_plugins" / "_shared.py", "raise RuntimeError('private')")
    code = """
        from tinygen.host import Registry
        print([(row.name, row.provider, row.status) for row in Registry.discover().rows])
    """
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[('grouped', 'family', 'ok'), ('alone', 'single', 'ok')]"


def test_the_same_plugin_found_twice_is_one(tmp_path):
    folder = folder_of_plugins(tmp_path)
    registry = Registry.discover(plugins=[str(tmp_path / "b_file.py")], folders=[folder, folder])
    assert len(rows_of(registry, "b_file")) == 1
    assert all(row.status == "ok" for row in registry.rows)


def test_two_providers_of_one_name_are_told_apart_by_a_number(tmp_path):
    first = write(tmp_path / "x" / "twin.py", plugin(algorithm("one", "twin")) + TOY.replace("size", "first"))
    second = write(tmp_path / "y" / "twin.py", plugin(algorithm("two", "twin")) + TOY.replace("size", "second"))
    registry = Registry.discover(plugins=[first, second])
    assert only_row(registry, "twin").name == "one"
    assert only_row(registry, "twin-2").name == "two"
    assert registry.load(registry.algorithm("one").config)().first == 8
    assert registry.load(registry.algorithm("two").config)().second == 8
    only_second = Registry.discover(plugins=[first, second], disabled=["twin"])
    assert [row.provider for row in only_second.rows if row.family == "toys"] == ["twin-2"]


def test_finding_providers_imports_none_of_them(tmp_path):
    trap = write(tmp_path / "trap.py", "raise RuntimeError('imported')")
    assert "trap" in [provider.name for provider in find_providers(plugins=[trap])]


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_disabled_provider_is_not_imported(tmp_path, monkeypatch, by_environment):
    trap = write(tmp_path / "trap.py", f"open({str(tmp_path / 'imported')!r}, 'w').close()\n" + plugin(algorithm("a")))
    if by_environment:
        monkeypatch.setenv("TINYGEN_DISABLE", "other, trap")
    registry = Registry.discover(plugins=[trap], disabled=() if by_environment else ["trap"])
    assert not rows_of(registry, "trap")
    assert not (tmp_path / "imported").exists()
