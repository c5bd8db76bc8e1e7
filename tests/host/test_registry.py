"""The registry: every kind of breakage costs one explained row and no more; names, references, callbacks."""

import pytest

from tests.host.plugin_files import HEAD, algorithm, dataset, only_row, plugin, rows_of, write
from tinygen.errors import PluginError, UsageError
from tinygen.host import Registry

# ---------------------------------------------------------------- what goes wrong

BROKEN = {
    "syntax": ("def broken(:\n", "SyntaxError: invalid syntax (FILE:1)", "--disable"),
    "import_raises": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (FILE:2)", "--disable"),
    "import_leaves": ("import sys\nsys.exit(7)\n", "SystemExit: 7 (FILE:2)", "--disable"),
    "no_dependency": ("import toy_absent\n", "ModuleNotFoundError: No module named 'toy_absent' (FILE:1)", "install"),
    "wrong_argument": (
        plugin(algorithm("a")).replace("algorithms()", "algorithms(config)"),
        "{'config'} are declared in the hookimpl but can not be found in the hookspec",
        "tinygen_callbacks(run)",
    ),
    "unknown_hook": (
        plugin(algorithm("a"), hook="tinygen_algoritms"),
        "there is no hook tinygen_algoritms",
        'did you mean "tinygen_algorithms"?',
    ),
    "not_marked": (
        plugin(algorithm("a")).replace("@hookimpl\n", ""),
        "tinygen_algorithms is not marked as a hook",
        "@hookimpl",
    ),
    "no_hook": ("x = 1\n", "it implements no hook", "begins with _"),
    "hook_raises": (
        HEAD + "@hookimpl\ndef tinygen_algorithms():\n    raise KeyError('x')\n",
        "KeyError: 'x' (FILE:4)",
        "--disable",
    ),
    "hook_gives_up": (
        HEAD + f"@hookimpl\ndef tinygen_algorithms():\n    yield {algorithm('a')}\n    raise OSError('late')\n",
        "OSError: late (FILE:5)",
        "--disable",
    ),
    "returns_none": (
        HEAD + "@hookimpl\ndef tinygen_datasets():\n    pass\n",
        "tinygen_datasets must return a list, got None",
        "return [",
    ),
    "returns_text": (plugin("'ab'").replace("['ab']", "'ab'"), "must return a list, got 'ab'", "return ["),
    "wrong_items": (plugin("1", "'x'"), "tinygen_algorithms must give AlgorithmSpec, got 1, 'x'", "nothing else"),
    "bad_spec": (
        plugin(algorithm("Bad Name")),
        "AlgorithmSpec: name must be lower-case words joined by _ or -, got 'Bad Name' (FILE:5)",
        "style_gan",
    ),
    "bad_verb": (plugin(algorithm("a").replace('"sample"', '"fly"')), "unknown verb, got 'fly'", "the verbs are"),
    "bad_api": (plugin(algorithm("a", extra=', api="9"')), "api must be", "install a tinygen"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_breakage_is_one_explained_row_and_the_host_works(kind, tmp_path):
    source, reason, hint = BROKEN[kind]
    file = write(tmp_path / f"{kind}.py", source)
    good = write(tmp_path / "good.py", plugin(algorithm("fine")))
    registry = Registry.discover(plugins=[file, good])
    row = only_row(registry, kind)
    assert (row.name, row.status, row.verbs) == (kind, "broken", ())
    assert reason.replace("FILE", file) in row.reason
    assert hint in row.hint
    assert "\n" not in row.reason + row.hint
    assert registry.algorithm("fine").name == "fine"
    with pytest.raises(PluginError, match=f"plugin {kind} is broken"):
        registry.algorithm(kind)
    with pytest.raises(PluginError, match=f"plugin {kind}: "):
        Registry.discover(plugins=[file, good], strict=True)


def test_the_place_of_an_error_is_in_the_plugins_own_code(tmp_path):
    """json raises deep inside; the author wants the line that called it."""
    file = write(tmp_path / "caller.py", "import json\njson.loads('{')\n")
    assert only_row(Registry.discover(plugins=[file]), "caller").reason.endswith(f"({file}:2)")


def test_the_place_of_an_error_may_be_in_any_file_of_a_package(tmp_path):
    write(tmp_path / "pack" / "__init__.py", "from . import parts\n")
    file = write(tmp_path / "pack" / "parts.py", "\n1 / 0\n")
    assert only_row(Registry.discover(plugins=[str(tmp_path / "pack")]), "pack").reason.endswith(f"({file}:2)")


def test_a_wrong_item_does_not_hide_the_good_ones(tmp_path):
    file = write(tmp_path / "mixed.py", plugin(algorithm("fine"), "None"))
    registry = Registry.discover(plugins=[file])
    assert [(row.name, row.status) for row in rows_of(registry, "mixed")] == [("mixed", "broken"), ("fine", "ok")]
    assert registry.algorithm("fine").name == "fine"


def test_a_broken_plugin_brings_nothing_at_all(tmp_path):
    source = plugin(algorithm("fine")) + "\n@hookimpl\ndef tinygen_datasets():\n    1 / 0\n"
    registry = Registry.discover(plugins=[write(tmp_path / "half.py", source)])
    assert only_row(registry, "half").status == "broken"
    with pytest.raises(UsageError, match='there is no algorithm "fine"'):
        registry.algorithm("fine")


def test_a_keyboard_interrupt_is_not_swallowed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Registry.discover(plugins=[write(tmp_path / "stop.py", "raise KeyboardInterrupt\n")])


def test_a_long_message_is_cut(tmp_path):
    file = write(tmp_path / "long.py", "raise ValueError('word ' * 1000)\n")
    assert 200 < len(only_row(Registry.discover(plugins=[file]), "long").reason) < 320 + len(file)


# ---------------------------------------------------------------- names


def test_the_first_provider_keeps_the_plain_name(tmp_path):
    first = write(tmp_path / "first.py", plugin(algorithm("same", "first_module")))
    second = write(tmp_path / "second.py", plugin(algorithm("same", "second_module")))
    registry = Registry.discover(plugins=[first, second])
    assert registry.algorithm("same").factory == "first_module:Toy"
    assert registry.algorithm("first:same").factory == "first_module:Toy"
    assert registry.algorithm("second:same").factory == "second_module:Toy"
    row = only_row(registry, "second")
    assert (row.name, row.status, row.verbs) == ("same", "conflict", ("sample",))
    assert row.reason == 'the algorithm "same" is already brought by first'
    assert "second:same" in row.hint
    with pytest.raises(PluginError, match="already brought by first"):
        Registry.discover(plugins=[first, second], strict=True)


def test_data_sets_conflict_as_algorithms_do(tmp_path):
    source = plugin(dataset("glyphs", "other"), dataset("mine", "other"), hook="tinygen_datasets")
    registry = Registry.discover(plugins=[write(tmp_path / "drawn.py", source)])
    row = only_row(registry, "drawn")
    assert (row.name, row.family, row.status) == ("glyphs", "data", "conflict")
    assert registry.dataset("glyphs").factory == "tinygen.data.glyphs:glyphs"
    assert registry.dataset("drawn:glyphs").factory == "other:data"
    assert registry.datasets["mine"].factory == "other:data"


@pytest.mark.parametrize(
    ("text", "provider", "argument"),
    [
        ("glyphs", "core", ""),
        ("glyphs:a:b", "core", "a:b"),
        ("drawn:glyphs", "drawn", ""),
        ("drawn:glyphs:a:b", "drawn", "a:b"),
        ("core:glyphs", "core", ""),
        ("glyphs:drawn", "core", "drawn"),
    ],
)
def test_what_data_means(tmp_path, text, provider, argument):
    file = write(tmp_path / "drawn.py", plugin(dataset("glyphs", "other"), hook="tinygen_datasets"))
    registry = Registry.discover(plugins=[file])
    assert registry.data(text) == (registry.dataset(f"{provider}:glyphs"), argument)


def test_a_data_sets_name_goes_before_a_providers(tmp_path):
    file = write(tmp_path / "glyphs.py", plugin(dataset("glyphs", "other"), hook="tinygen_datasets"))
    registry = Registry.discover(plugins=[file])
    assert registry.data("glyphs:glyphs") == (registry.dataset("core:glyphs"), "glyphs")


def test_data_that_nobody_brings():
    with pytest.raises(UsageError, match='there is no data set "glyhps"'):
        Registry.discover().data("glyhps:a")


def test_one_plugin_that_brings_a_name_twice(tmp_path):
    file = write(tmp_path / "double.py", plugin(algorithm("same", "a"), algorithm("same", "b")))
    registry = Registry.discover(plugins=[file])
    assert [row.status for row in rows_of(registry, "double")] == ["ok", "conflict"]
    assert rows_of(registry, "double")[1].reason == 'double brings two of the algorithm "same"'
    assert registry.algorithm("double:same").factory == "a:Toy"


def test_an_unknown_name_gets_a_suggestion_and_the_broken_plugins(tmp_path):
    good = write(tmp_path / "good.py", plugin(algorithm("bezier-two")))
    bad = write(tmp_path / "bad.py", "1 / 0")
    registry = Registry.discover(plugins=[good, bad])
    with pytest.raises(UsageError, match='there is no algorithm "bezier-tow"') as caught:
        registry.algorithm("bezier-tow")
    assert caught.value.hint.startswith('did you mean "bezier-two"?; broken and left out: bad')
    with pytest.raises(UsageError, match='there is no data set "mnits"') as caught:
        registry.dataset("mnits")
    assert 'did you mean "mnist"?' in caught.value.hint


# ---------------------------------------------------------------- loading


def test_load_explains_what_is_not_there(tmp_path):
    registry = Registry.discover()
    with pytest.raises(PluginError, match="No module named 'toy_nowhere'"):
        registry.load("toy_nowhere.model:Model")
    with pytest.raises(PluginError, match=r"tinygen\.errors has no PlugInError") as caught:
        registry.load("tinygen.errors:PlugInError")
    assert caught.value.hint == 'did you mean "PluginError"?'


def test_load_tells_where_a_plugins_module_fails(tmp_path, monkeypatch):
    write(tmp_path / "toy_spec.py", plugin(algorithm("one", "toy_model")))
    file = write(tmp_path / "toy_model.py", "import math\n\nmath.sqrt(-1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.discover(plugins=["toy_spec"])
    with pytest.raises(PluginError) as caught:
        registry.load(registry.algorithm("one").factory)
    assert caught.value.message.startswith("toy_model:Toy cannot be imported: ValueError: ")
    assert caught.value.message.endswith(f"({file}:3)")


def test_load_survives_a_module_that_leaves(tmp_path, monkeypatch):
    write(tmp_path / "toy_leaver.py", "raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="SystemExit: 0"):
        Registry.discover().load("toy_leaver:Thing")


# ---------------------------------------------------------------- callbacks


def test_callbacks_are_gathered_and_a_failing_hook_is_left_out(tmp_path):
    hook = HEAD + "@hookimpl\ndef tinygen_callbacks({0}):\n    return [{1}]\n"
    files = [
        write(tmp_path / "with_run.py", hook.format("run", "run, 'a'")),
        write(tmp_path / "failing.py", hook.format("run", "1 / 0")),
        write(tmp_path / "without_run.py", hook.format("", "'b'")),
    ]
    registry = Registry.discover(plugins=files)
    assert not rows_of(registry, "failing")
    with pytest.warns(RuntimeWarning, match="plugin failing brings no callbacks: ZeroDivisionError"):
        assert registry.callbacks("the run") == ["the run", "a", "b"]
    assert only_row(registry, "failing").status == "broken"


def test_place_of_tells_a_plugins_error_from_the_hosts(tmp_path):
    file = write(tmp_path / "risky.py", plugin(algorithm("one", "risky")) + "\ndef divide():\n    return 1 / 0\n")
    registry = Registry.discover(plugins=[file])
    divide = registry.load(registry.algorithm("one").factory.replace("Toy", "divide"))
    with pytest.raises(ZeroDivisionError) as caught:
        divide()
    assert registry.place_of(caught.value) == f"{file}:8"
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert registry.place_of(caught.value) == ""
