"""The frame of the command line: options before and after the verb, output, errors, exit codes, pipes, colour."""

import contextlib
import importlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import types
import warnings
from itertools import chain

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.host.plugin_files import TOY, algorithm, plugin, write
from tinygen.cli import frame, main
from tinygen.errors import DataError, PluginError, UsageError

TINYGEN = [sys.executable, "-m", "tinygen"]


def install_verb(patch, action, **settings):
    """Install a verb `toy` that does `action`; `settings` are further names of its module."""
    module = types.ModuleType("tinygen.cli.toy")
    module.HELP = "Play."
    module.add_arguments = lambda parser: parser.add_argument("--size", type=int, default=3)
    module.run = action
    vars(module).update(settings)
    patch.setitem(frame.VERBS, "toy", "play")
    patch.setitem(sys.modules, "tinygen.cli.toy", module)


@pytest.fixture
def verb(monkeypatch):
    def install(action=lambda args, rest, out: None, **settings):
        install_verb(monkeypatch, action, **settings)

    return install


def refuse(error):
    def action(args, rest, out):
        raise error

    return action


# ---------------------------------------------------------------- arguments


GLOBAL_OPTIONS = st.lists(
    st.sampled_from(
        [("--strict",), ("--json",), ("-p", "toy"), ("--plugin=b.py",), ("--disable", "x"), ("--disable=y",)]
    )
)


@given(before=GLOBAL_OPTIONS, after=GLOBAL_OPTIONS)
def test_global_options_stand_before_and_after_the_verb(before, after):
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        install_verb(
            patch,
            lambda args, rest, out: seen.update(vars(args)),
            add_arguments=lambda parser: parser.add_argument("words", nargs="*"),
        )
        assert main([*chain(*before), "toy", "one", *chain(*after), "two"]) == 0
    said = [*before, *after]
    assert seen["words"] == ["one", "two"]
    assert seen["strict"] == (("--strict",) in said)
    assert seen["json"] == (("--json",) in said)
    assert seen["plugin"] == [
        option[-1].removeprefix("--plugin=") for option in said if option[0].startswith(("-p", "--p"))
    ]
    assert seen["disable"] == [option[-1].removeprefix("--disable=") for option in said if "--disable" in option[0]]


def test_unknown_arguments_reach_a_verb_that_takes_them(verb):
    seen = []
    verb(lambda args, rest, out: seen.extend([args.size, *rest]), TAKES_REST=True)
    assert main(["toy", "--lr", "-1e-3", "--json", "--size", "5", "--no-bias", "x"]) == 0
    assert seen == [5, "--lr", "-1e-3", "--no-bias", "x"]


def test_the_backend_is_used_before_the_verb_runs(verb):
    from tinygen import backend

    verb(lambda args, rest, out: out.result(None, backend.current().name))
    with backend.using("numpy"):
        assert main(["toy", "--backend", "strict"]) == 0
        assert backend.current().name == "strict"


def test_the_registry_is_discovered_once(verb, monkeypatch):
    calls = []
    monkeypatch.setattr(frame.Registry, "discover", lambda *settings: calls.append(settings) or "the registry")
    found = []
    verb(lambda args, rest, out: found.extend([frame.registry(args), frame.registry(args)]))
    main(["-p", "a.py", "toy", "--plugins-dir", "d", "--disable", "x", "--strict"])
    assert found == ["the registry", "the registry"]
    assert calls == [(["a.py"], ["d"], ["x"], True)]


def test_version_and_help(capsys, verb):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "tinygen 0.1.0\n"
    assert main(["list", "--json", "--version"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": "0.1.0"}
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, line in frame.VERBS.items():
        assert text.count(f"  {name:<10}{line}\n") == 2
    verb()
    assert main(["toy", "--help", "--nonsense"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: tinygen toy")
    assert "Play." in text
    assert "--size" in text
    assert "--plugins-dir" in text


def test_help_tells_more_where_the_name_is_given(capsys, verb):
    verb(
        add_arguments=lambda parser: parser.add_argument("name", choices=["gan"]),
        more_help=lambda args: f"options of {args.name}",
        TAKES_REST=True,
    )
    assert main(["toy", "--help"]) == 0
    assert "options of gan" not in capsys.readouterr().out
    assert main(["toy", "-h", "gan", "--lr", "1"]) == 0
    assert capsys.readouterr().out.endswith("\n\noptions of gan\n")


@pytest.mark.parametrize("name", frame.VERBS)
def test_each_verb_is_a_module_of_the_declared_form(name):
    module = importlib.import_module(f"tinygen.cli.{name}")
    assert module.HELP.endswith(".")
    assert callable(module.run)
    module.add_arguments(frame.Parser())
    assert hasattr(module, "more_help") <= getattr(module, "TAKES_REST", False)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["lsit"], 'there is no verb "lsit"', 'did you mean "list"?'),
        (["--jason", "list"], "unknown option --jason", 'did you mean "--json"?'),
        (["list", "--disabel=x"], "unknown option --disabel", 'did you mean "--disable"?'),
        (["list", "--stric"], "unknown option --stric", 'did you mean "--strict"?'),
        (["list", "more"], 'unexpected argument "more"', "see tinygen list --help"),
        (["list", "--plugin"], "argument -p/--plugin: expected one argument", "see tinygen --help"),
        (["show"], "the following arguments are required: NAME", "see tinygen show --help"),
        (["list", "--"], 'unexpected "--"', 'leave the "--" out'),
        (["list", "--backend", "numppy"], '--backend: there is no backend "numppy"', 'did you mean "numpy"?'),
        (["list", "--backend="], '--backend: there is no backend ""', "there is auto, cupy, numpy, strict"),
        (["list", "--strict=yes"], "argument --strict: ignored explicit argument 'yes'", "see tinygen --help"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(argv, message, hint, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"tinygen: error: {message}\n  hint: {hint}\n"
    assert main([*argv, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": "usage", "message": message, "hint": hint}}
    assert err == ""


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (DataError("no file", "put it there"), 1, "data"),
        (UsageError("what?", "say this"), 2, "usage"),
        (PluginError("not kept", "mend it"), 3, "plugin"),
        (KeyboardInterrupt(), 1, "interrupted"),
    ],
)
def test_errors_have_their_exit_code_and_document(verb, error, exit_code, code, capsys):
    verb(refuse(error))
    assert main(["toy", "--json"]) == exit_code
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["code"] == code
    assert document["message"] == getattr(error, "message", "interrupted")
    assert main(["toy"]) == exit_code
    assert "Traceback" not in capsys.readouterr().err


def test_the_exit_code_of_a_verb_is_handed_on(verb):
    verb(lambda args, rest, out: 4)
    assert main(["toy"]) == 4


def test_an_unforeseen_error_is_one_line_and_the_traceback_is_for_debug(verb, capsys):
    verb(lambda args, rest, out: 1 / 0)
    assert main(["toy"]) == 1
    err = capsys.readouterr().err
    line = test_an_unforeseen_error_is_one_line_and_the_traceback_is_for_debug.__code__.co_firstlineno + 1
    assert err.startswith(f"tinygen: error: ZeroDivisionError: division by zero ({__file__}:{line})\n")
    assert "--debug" in err
    assert "Traceback" not in err
    assert main(["toy", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_plugin_that_leaves_has_failed(verb, capsys):
    verb(refuse(SystemExit(0)))
    assert main(["toy"]) == 1
    assert capsys.readouterr().err.startswith("tinygen: error: SystemExit: 0 (")


def test_an_error_out_of_a_plugins_file_is_the_plugins(verb, tmp_path, capsys):
    """The place is the plugin's line, though NumPy's or the library's own may be further in."""
    source = plugin(algorithm("one", "risky")) + "\nimport json\ndef make():\n    return json.loads('{')\n"
    file = write(tmp_path / "risky.py", source)

    def action(args, rest, out):
        registry = frame.registry(args)
        registry.load(registry.algorithm("one").factory.replace("Toy", "make"))()

    verb(action)
    assert main(["toy", "-p", file, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "plugin"
    assert error["message"].startswith("JSONDecodeError: Expecting property name")
    assert error["message"].endswith(f"({file}:9)")


def test_a_warning_is_one_line_on_stderr(verb, capsys):
    verb(lambda args, rest, out: warnings.warn("this is odd", RuntimeWarning, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["toy", "--json"]) == 0
    assert capsys.readouterr() == ("", "tinygen: warning: this is odd\n")


# ---------------------------------------------------------------- output


def test_what_a_plugin_prints_does_not_mix_with_the_data(tmp_path, capsys):
    file = write(tmp_path / "chatty.py", "print('good morning')\n" + plugin(algorithm("one")))
    assert main(["list", "--json", "-p", file]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[-1]["name"] == "one"
    assert err == "good morning\n"


def documents():
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


def equal(value, parsed):
    """Whether JSON says the value, with null for the floats that it does not have."""
    if isinstance(value, float):
        return parsed is None if value != value or abs(value) == float("inf") else parsed == value
    if isinstance(value, list):
        return len(value) == len(parsed) and all(map(equal, value, parsed))
    if isinstance(value, dict):
        return value.keys() == parsed.keys() and all(equal(value[key], parsed[key]) for key in value)
    return value == parsed and type(value) is type(parsed)


@given(documents())
@example([float("nan"), {"psnr": float("inf")}, -float("inf")])
def test_every_document_is_strict_json(document):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        frame.Output(json=True).result(document, "not this")
    stream.seek(0)
    assert equal(document, json.loads(stream.read(), parse_constant=pytest.fail))


def test_text_survives_an_encoding_without_its_characters(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    frame.Output().result({}, "28×28")
    stream.seek(0)
    assert stream.read() == "28?28\n"


# ---------------------------------------------------------------- the process


def on_a_terminal(*argv, **environment):
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*TINYGEN, *argv], stdout=follower, stderr=subprocess.PIPE, env={**clean, "TERM": "xterm", **environment}
    )
    os.close(follower)
    parts = []
    with open(leader, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # at its end a terminal fails
        while part := terminal.read(65536):
            parts.append(part)
    _, err = process.communicate()
    text = b"".join(parts).decode()
    assert process.returncode == 0, err.decode()
    return text.replace("\r\n", "\n")


def test_colour_only_on_a_terminal_and_without_no_color(tmp_path):
    file = write(tmp_path / "toys.py", plugin(algorithm("one"), algorithm("another")) + TOY)
    painted = on_a_terminal("list", "-p", file)
    assert "\x1b[1mtoys\x1b[0m\n" in painted
    for quiet in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        text = on_a_terminal("list", "-p", file, **quiet)
        assert re.search(r"toys\n  one +sample", text)
        assert "\x1b" not in text
    assert "\x1b[" in on_a_terminal("list", "-p", file, NO_COLOR="")
    piped = subprocess.run([*TINYGEN, "list", "-p", file], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout
    assert "one\ttoys\tok\tsample\ttoys\tA toy.\n" in piped.stdout


def test_a_reader_that_leaves_is_no_error():
    """`tinygen list | head -1`, with a reader that has left before anything is written."""
    read, write_end = os.pipe()
    os.close(read)
    done = subprocess.run([*TINYGEN, "list"], stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_is_one_line(options):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*TINYGEN, "list", *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tinygen: error: OSError: [Errno 28] No space left on device")
    assert "Traceback" not in done.stderr


HEAVY = ("numpy", "scipy", "matplotlib", "cupy", "rich", "tyro")


@pytest.mark.parametrize("argv", [["list"], ["list", "--json"], ["--help"], ["lsit"], ["show", "--help"]], ids=" ".join)
def test_quick_answers_import_nothing_heavy(argv):
    code = (
        "import sys; from tinygen.cli import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["tinygen", "tinygen.host", "tinygen.cli"])
def test_the_light_modules_import_nothing_heavy(module):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in {HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
