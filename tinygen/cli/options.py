"""What the verbs of runs share: the data set, a plugin's own options, and which algorithm a run or a name means.

A plugin's options are the fields of its Config: tyro reads them from the arguments that the verb does not know.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinygen.cli import frame
from tinygen.data import DataRequest, Dataset, DataSpec, data_folders
from tinygen.errors import PluginError, UsageError
from tinygen.host import Registry, verbs_of
from tinygen.host.describe import describe_config
from tinygen.random import Stream
from tinygen.run import Origin, checkpoint, load_algorithm

# ---------------------------------------------------------------- data


def add_data_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """--data and what shapes it; `default` says in the help what stands in for --data."""
    options = parser.add_argument_group("data")
    options.add_argument("--data", metavar="NAME[:ARG]", help=f"mnist, folder:PATH, …; default: {default}")
    options.add_argument("--data-dir", metavar="DIR", help="folder of data sets, before $TINYGEN_DATA")
    options.add_argument("--image-size", type=int, metavar="PIXELS", help="bring images to a square of this side")
    options.add_argument("--grey", action="store_true", default=None, help="one channel in place of three")


def load_data(registry: Registry, text: str, folder: str | None, size: int | None, grey: bool) -> Dataset:
    """The data set that `--data text` means. Raises UsageError for what cannot be meant, DataError for its files."""
    spec, argument = registry.data(text)
    name = text.removesuffix(f":{argument}") if argument else text.removesuffix(":")
    if spec.argument and not spec.argument.endswith("?") and not argument:
        raise UsageError(f"--data {text}: {name} needs its {spec.argument}", f"write --data {name}:{spec.argument}")
    if argument and not spec.argument:
        raise UsageError(f"--data {text}: {name} takes no argument", f"write --data {name}")
    if size is not None and size < 1:
        raise UsageError(f"--image-size must be at least 1, got {size}", "for instance --image-size 28")
    request = DataRequest(argument=argument, folders=data_folders(folder), size=size, grey=grey)
    data = registry.load(spec.factory)(request)
    if not isinstance(data, Dataset):
        raise PluginError(f"{spec.factory} must return a Dataset, got a {type(data).__name__}", "see tinygen.data")
    return data


def from_anywhere(registry: Registry, text: str) -> str:
    """`--data text` with the path in it, where there is one, in full: a run may go on from another folder."""
    spec, argument = registry.data(text)
    if argument and spec.argument.rstrip("?") == "PATH":
        return f"{text.removesuffix(argument)}{Path(argument).expanduser().resolve()}"
    return text


# ---------------------------------------------------------------- a plugin's options


def parse_config(kind: Any, rest: Sequence[str], parser: argparse.ArgumentParser, default: Any = None) -> Any:
    """A Config out of words such as `--lr 2e-4 --no-bias`; what is not told is as in `default`.

    parser: the verb's own, for its name and for a better guess at a mistyped option.
    Raises UsageError, in one line, for an option that is unknown and for a value that does not fit.
    """
    import tyro

    if default is None:
        default = default_config(kind)
    _require_known(kind, rest, parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(kind, args=rest, default=default)
    except SystemExit:
        raise UsageError(_message_in(said.getvalue()), f"see {parser.prog} NAME --help") from None


def default_config(kind: Any) -> Any:
    """A plugin's Config with nothing said."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise PluginError(f"the Config of a plugin must be a dataclass, got {kind!r}", "write @dataclass(frozen=True)")
    try:
        return kind()
    except TypeError as error:
        raise PluginError(f"{kind.__name__}: each field needs a default: {error}", "write name: type = …") from error


def _require_known(kind: type, rest: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """The first word must be an option, and every option a field of the Config (--no-… for a boolean)."""
    flags = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)]
    known = {*flags, *(flag.replace("--", "--no-", 1) for flag in flags)}
    for place, word in enumerate(rest):
        is_option = re.match("--?[A-Za-z]", word) is not None
        if (is_option or place == 0) and word.partition("=")[0].replace("_", "-") not in known:
            raise frame.unknown_argument(word, parser, flags)


def _message_in(picture: str) -> str:
    """The message in tyro's framed text: what stands between its first two rules, in one line."""
    lines = [line.strip(" │") for line in picture.splitlines()]
    rules = [place for place, line in enumerate(lines) if line and not line.strip("-─")]
    message = lines[rules[0] + 1 : rules[1]] if len(rules) > 1 else lines
    return " ".join(" ".join(message).split())


def config_help(kind: type, hidden: Sequence[str] = ()) -> str:
    """The options of a Config as lines of help."""
    lines = ["options of this algorithm:"]
    for option in describe_config(kind):
        if option["name"] not in hidden:
            flag = f"--{option['name'].replace('_', '-')} {option['type']}"
            lines.append(f"  {flag:<22}  {option['help']} (default: {option['default']})")
    return "\n".join(lines)


# ---------------------------------------------------------------- the algorithm that a verb works with


def provider_of(registry: Registry, name: str) -> str:
    """The plugin that brings the algorithm called `name` or `provider:name`."""
    provider, colon, _ = name.rpartition(":")
    if colon:
        return provider
    return next(row.provider for row in registry.rows if row.name == name and row.status == "ok")


def is_run(source: str) -> bool:
    """Whether a word is the path of a run's folder rather than the name of an algorithm."""
    return Path(source).name != source or (Path(source) / checkpoint.FILE).is_file()


def open_run(args: argparse.Namespace, rest: Sequence[str], parser: argparse.ArgumentParser) -> tuple[Origin, Any]:
    """What the run in the folder `args.source` is made of, and its trained algorithm."""
    if rest:  # its options are those that it was trained with
        raise frame.unknown_argument(rest[0], parser)
    algorithm, saved = load_algorithm(Path(args.source), frame.registry(args))
    return saved.origin, algorithm


def build_untrained(
    args: argparse.Namespace, rest: Sequence[str], parser: argparse.ArgumentParser, data: DataSpec | None = None
) -> tuple[str, Any]:
    """The algorithm called `args.source`, which must be one that needs no training, and its plain name."""
    registry = frame.registry(args)
    spec = registry.algorithm(args.source)
    if "train" in spec.verbs and not spec.untrained:
        train = f"tinygen train {spec.name} --out runs/{spec.name}"
        raise UsageError(f"{spec.name} has to be trained first", f"{train}, and then name that folder")
    config = parse_config(registry.load(spec.config), rest, parser)
    return spec.name, registry.load(spec.factory)(config, data, Stream(args.seed, spec.name).child("algorithm"))


def require_capability(name: str, algorithm: Any, verb: str) -> None:
    """Raise UsageError for an algorithm that cannot do the verb at hand."""
    verbs = verbs_of(type(algorithm))
    if verb not in verbs:
        raise UsageError(f"{name} has no verb {verb}", f"it has {', '.join(verbs)}")


def source_help(args: argparse.Namespace) -> str:
    """The options of the algorithm that `--help` is asked for; a run has none any more."""
    if is_run(args.source):
        return ""
    registry = frame.registry(args)
    return config_help(registry.load(registry.algorithm(args.source).config))


def numbered(name: str) -> Iterator[str]:
    """NAME, NAME-2, NAME-3, …: what is tried where nothing may be overwritten."""
    return itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))


def at_least(minimum: int, name: str, value: int) -> int:
    """`value`, or UsageError where it is smaller."""
    if value < minimum:
        raise UsageError(f"{name} must be at least {minimum}, got {value}", f"for instance {name} {max(minimum, 1)}")
    return value
