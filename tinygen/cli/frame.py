"""The frame around the verbs: options that every verb has, output, errors and exit codes.

A verb is a line in VERBS and a module `tinygen.cli.<verb>` with

    HELP: str                                   one line, shown above its options
    add_arguments(parser)                       its own arguments
    run(args, rest, out) -> int | None          does it; the exit code, None means 0

and, where it takes the options of a plugin too,

    TAKES_REST = True                           `rest` then holds the arguments that the parser does not know
    more_help(args) -> str                      what `--help` says beyond the parser's own text, once NAME is given

Verb modules are imported when called, so that `tinygen --help` and `tinygen list` answer at once. stdout is data,
stderr is everything else. Exit codes: 0 ok, 1 failed, 2 usage, 3 plugin problem, 4 check findings.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn, TextIO

import tinygen
from tinygen.errors import TinygenError, UsageError, did_you_mean
from tinygen.host.providers import describe, location
from tinygen.host.registry import Registry

VERBS = {
    "list": "the algorithms that there are, and the plugins that are broken",
    "show": "one algorithm: its options, equations and the tests that verify them",
    "train": "train an algorithm on a data set",
    "sample": "draw images from a trained run or from an algorithm that needs no training",
    "repair": "fill in what is missing from a picture, or take the noise out of it",
    "compose": "make one picture out of several",
    "stylize": "paint a photograph in the style of a painting",
    "animate": "make films by a trained run, or by an algorithm that needs no training",
    "evaluate": "measure a trained run on a data set",
    "adapt": "adapt a trained run to a few examples of something new",
    "new": "write a plugin to begin with: it runs, and passes its checks",
    "check": "whether a plugin keeps what is promised of it: contract, mathematics, training and more",
    "read": "an algorithm as a page to study, its prose beside its code, or all of them as a book",
    "graph": "the computation graph of one training step, as a picture",
    "step": "one training step, operation by operation, forward and back",
    "data": "the data sets that there are, where their files lie, and their download",
    "doctor": "versions, backends, data sets and plugins of this installation",
}
BACKENDS = ("numpy", "cupy", "auto", "strict")
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}  # ANSI codes


# ---------------------------------------------------------------- output


class Output:
    """Where a verb's results and remarks go, and in which form."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.stdout = sys.stdout
        self.terminal = self.stdout.isatty()  # a person reads; in a pipe, a program does

    def result(self, document: Any, text: str) -> None:
        """The verb's result on stdout: with --json the document, else the text (nothing where it is empty)."""
        if self.json:
            _write(self.stdout, json.dumps(_json_value(document), indent=2))
        elif text:
            _write(self.stdout, text)

    def note(self, text: str) -> None:
        """A remark for a person, on stderr."""
        _write(sys.stderr, text)

    def warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """A Python warning as one line on stderr; stands in for `warnings.showwarning`."""
        self.note(f"tinygen: warning: {message}")

    def error(self, error: TinygenError) -> None:
        """An error: with --json a document on stdout, else a line and its hint on stderr."""
        if self.json:
            self.result({"error": {"code": error.code, "message": error.message, "hint": error.hint}}, "")
            return
        label = _paint("error:", "red") if _wants_colour(sys.stderr) else "error:"
        self.note(f"tinygen: {label} {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))

    def style(self, text: str, name: str) -> str:
        """`text` in one of STYLES where stdout shows colours, else as it is."""
        return _paint(text, name) if _wants_colour(self.stdout) else text


def _paint(text: str, name: str) -> str:
    return f"\x1b[{STYLES[name]}m{text}\x1b[0m"


def _wants_colour(stream: TextIO) -> bool:
    """On a terminal, unless NO_COLOR is set (no-color.org) or the terminal cannot."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(stream: TextIO, text: str) -> None:
    """A line to a stream; a character that its encoding lacks is replaced rather than fatal."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def _json_value(value: Any) -> Any:
    """`value` with null for numbers that JSON does not have: infinities and not-a-number."""
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------- arguments


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError in place of printing and leaving."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def _add_global_options(parser: Parser) -> Parser:
    """The options of every verb, added to a parser; returns it."""
    options = parser.add_argument_group("options of every verb")
    options.add_argument("-h", "--help", action="store_true", help="this text")
    options.add_argument("--json", action="store_true", help="one JSON document on stdout, errors included")
    options.add_argument(
        "-p", "--plugin", action="append", default=[], metavar="FILE",
        help="load a plugin from a .py file, a package folder or a dotted module; may be repeated",
    )  # fmt: skip
    options.add_argument(
        "--plugins-dir", action="append", default=[], metavar="DIR",
        help="load every plugin in a folder, before those in $TINYGEN_PLUGINS_DIR; may be repeated",
    )  # fmt: skip
    options.add_argument(
        "--disable", action="append", default=[], metavar="NAME",
        help="leave a plugin out, besides those in $TINYGEN_DISABLE; may be repeated",
    )  # fmt: skip
    options.add_argument("--strict", action="store_true", help="stop at a plugin that is broken or in conflict")
    options.add_argument("--backend", metavar="NAME", help="numpy, cupy or auto; default: $TINYGEN_BACKEND or numpy")
    options.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options.add_argument("--version", action="store_true", help="print the version")
    return parser


def _top_help() -> str:
    verbs = "\n".join(f"  {verb:<10}{line}" for verb, line in VERBS.items())
    options = _add_global_options(Parser(prog="tinygen")).format_help().partition("options of every verb:")[2]
    return (
        "usage: tinygen VERB ... [options]\n\nImage generation whose algorithms read like their papers.\n\n"
        f"verbs (tinygen VERB --help tells more):\n{verbs}\n\noptions of every verb:{options.rstrip()}"
    )


def registry(args: argparse.Namespace) -> Registry:
    """The registry that the options of the command line ask for; discovered once."""
    if args.registry is None:
        args.registry = Registry.discover(args.plugin, args.plugins_dir, args.disable, args.strict)
    return args.registry


def plugin_options(args: argparse.Namespace) -> list[str]:
    """The words of this command line that name plugins: a command that works with the same ones needs them again."""
    named = [("-p", plugin) for plugin in args.plugin] + [("--plugins-dir", folder) for folder in args.plugins_dir]
    return [word for option in named for word in option]


# ---------------------------------------------------------------- one call


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's own). Returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    out = Output(json="--json" in argv)
    args = argparse.Namespace(registry=None, debug="--debug" in argv)
    try:
        # What a plugin prints must not mix with the data on stdout: while a verb runs, `print` goes to stderr.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.showwarning = out.warning
            code = _run(argv, args, out)
        out.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has left, as `head` does: nothing is wrong, and nobody to tell
        _silence(out.stdout)
        return 1
    except KeyboardInterrupt:
        error: TinygenError = _Interrupted("interrupted")
    except TinygenError as raised:
        error = raised
        _show_traceback(args)
    except (Exception, SystemExit) as raised:  # no verb leaves by SystemExit; a plugin may
        error = _unexpected(raised, args)
        _show_traceback(args)
    return _fail(error, out)


def _run(argv: list[str], args: argparse.Namespace, out: Output) -> int:
    # Global options may stand before and after the verb: they are taken out first, and the rest keeps its order.
    _, words = _add_global_options(Parser(prog="tinygen")).parse_known_args(argv, args)
    if args.version:
        out.result({"version": tinygen.__version__}, f"tinygen {tinygen.__version__}")
        return 0
    if not words:
        out.result({"help": _top_help()}, _top_help())
        return 0
    verb, module = _verb(words[0])
    parser = Parser(prog=f"tinygen {verb}", description=module.HELP)
    module.add_arguments(parser)
    _add_global_options(parser)
    if args.help:
        text = _verb_help(module, parser, words[1:], args)
        out.result({"help": text}, text)
        return 0
    _, rest = parser.parse_known_args(words[1:], args)
    if rest and not getattr(module, "TAKES_REST", False):
        raise unknown_argument(rest[0], parser)
    if args.backend is not None:
        if args.backend not in BACKENDS:
            hint = did_you_mean(args.backend, list(BACKENDS))
            raise UsageError(f'--backend: there is no backend "{args.backend}"', hint)
        from tinygen import backend  # imports NumPy, which a verb may not need

        backend.use(args.backend)
    return module.run(args, rest, out) or 0


def _verb(name: str) -> tuple[str, ModuleType]:
    if name.startswith("-"):
        raise unknown_argument(name, _add_global_options(Parser(prog="tinygen")))
    if name not in VERBS:
        raise UsageError(f'there is no verb "{name}"', did_you_mean(name, list(VERBS)))
    return name, importlib.import_module(f"tinygen.cli.{name}")


def _verb_help(module: ModuleType, parser: Parser, words: list[str], args: argparse.Namespace) -> str:
    text = parser.format_help().rstrip()
    if not hasattr(module, "more_help"):
        return text
    try:
        parser.parse_known_args(words, args)
    except UsageError:  # NAME is not given yet: the parser's own help is all there is to say
        return text
    return f"{text}\n\n{module.more_help(args)}".rstrip()


def unknown_argument(argument: str, parser: argparse.ArgumentParser, others: Sequence[str] = ()) -> UsageError:
    """The error for an argument that neither `parser` nor `others` (more option names) know."""
    if argument == "--":
        return UsageError('unexpected "--"', _NO_DASHES)
    if not argument.startswith("-"):
        return UsageError(f'unexpected argument "{argument}"', f"see {parser.prog} --help")
    option = argument.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    if option in known:
        return UsageError(f'{option} stands after "--", where nothing is an option', _NO_DASHES)
    return UsageError(f"unknown option {option}", did_you_mean(option, [*known, *others]))


_NO_DASHES = 'leave the "--" out'


# ---------------------------------------------------------------- when it goes wrong


class _Interrupted(TinygenError):
    code = "interrupted"


class _PluginFault(TinygenError):
    code, exit_code = "plugin", 3


def _unexpected(error: BaseException, args: argparse.Namespace) -> TinygenError:
    """An exception that nobody foresaw, as one line: out of a plugin's files (exit code 3) or not (1)."""
    hint = "see the traceback with --debug"
    place = args.registry.place_of(error) if args.registry else ""
    if place:
        return _PluginFault(describe(error, place), hint)
    return TinygenError(describe(error, location(error)), hint)


def _show_traceback(args: argparse.Namespace) -> None:
    if args.debug:
        import traceback

        traceback.print_exc()


def _fail(error: TinygenError, out: Output) -> int:
    try:
        out.error(error)
        out.stdout.flush()
    except OSError:  # stdout itself is what failed: a full disk, a closed pipe
        _silence(out.stdout)
        if out.json:
            out.note(f"tinygen: error: {error.message}")
    return error.exit_code


def _silence(stream: TextIO) -> None:
    """Let the interpreter's last flush go nowhere, where it cannot fail again."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
