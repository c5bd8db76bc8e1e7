"""`tinygen new NAME`: a plugin to begin with, its test, and with --package a project that can be installed.

What is written runs, and passes `tinygen check`: put your algorithm in the place of the one that is there. The sources
are in templates/; a line `#: sample repair` there begins a part for plugins with one of these verbs.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tinygen.cli import frame
from tinygen.errors import OutputError, UsageError, did_you_mean
from tinygen.host.contract import CAPABILITIES, NAME
from tinygen.host.providers import module_root

HELP = "Write a plugin to begin with: it runs, has a verified equation, and passes its checks."
TEMPLATES = Path(__file__).with_name("templates")
NEED_TRAINING = ("repair", "evaluate", "adapt")
MIXTURE, WAVES = "mixture", "waves"  # what is written, for a plugin that can be trained and for one that cannot
SUMMARIES = {MIXTURE: "a mixture of black and white pictures", WAVES: "plane waves that lie over each other"}
PAPERS = {
    MIXTURE: '"Bishop, Pattern Recognition and Machine Learning, 2006, section 9.3.3"',
    WAVES: '"a mean of plane waves: put your source here"',
}
DATA = {"Batches": "", "Dataset": "evaluate", "DataSpec": "", "Support": "adapt"}  # of tinygen.data, by verb
SMALL = {MIXTURE: '{"prototypes": 6, "batch_size": 6}', WAVES: '{"size": 12}'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the algorithm's, lower-case words joined by _ or -")
    parser.add_argument("--family", default="mine", metavar="NAME", help="the shelf it stands on; default: mine")
    parser.add_argument(
        "--can", default="train,sample", metavar="VERBS",
        help=f"what it can do, by commas: {', '.join(CAPABILITIES)}; default: train,sample",
    )  # fmt: skip
    parser.add_argument("--package", action="store_true", help="a project that pip can install, in a folder NAME")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where; default: here")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    _require_name(args.name)
    if NAME.fullmatch(args.family) is None:
        raise UsageError(f'--family: "{args.family}" is no name', "lower-case words joined by _ or -")
    verbs = _verbs(args.can)
    module = args.name.replace("-", "_")
    _require_free(frame.registry(args), args.name, module)
    root = args.out / args.name if args.package else args.out
    files = _sources(args.name, args.family, verbs, module, args.package)
    _write(root, files)
    verified = _write_ledger(root, next(name for name in files if Path(name).name.startswith("test_")))

    plugin = [] if args.package else ["-p", f"{module}.py"]
    target = args.name if args.package else f"{module}.py"
    commands = [f"cd {root}"] * (root != Path()) + ["pip install -e '.[test]'"] * args.package
    commands += [f"tinygen check {target}", " ".join(["tinygen", verbs[0], args.name, *_words_for(verbs[0]), *plugin])]
    document = {"name": args.name, "files": [str(root / name) for name in files], "next": commands}
    out.result(document, "\n".join(document["files"]))
    if not verified:
        out.note("the ledger of equations was not written: pip install 'tinygen[test]', then pytest --equations")
    out.note("next:" + "".join(f"\n  {command}" for command in commands))


def _words_for(verb: str) -> list[str]:
    """What else the first command needs."""
    words = {"sample": ["-n", "16"], "compose": ["A.png", "B.png"], "stylize": ["A.png", "--style", "B.png"]}
    return words.get(verb, [])


# ---------------------------------------------------------------- what is asked for


def _require_name(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise UsageError(f'"{name}" is no name for a plugin', 'lower-case words joined by _ or -, as in "my_plugin"')
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(f'"{name}" is a word of Python itself', "choose another name")


def _verbs(text: str) -> tuple[str, ...]:
    """The verbs in the order of the contract."""
    words = [word for word in re.split(r"[,\s]+", text) if word]
    for word in words:
        if word not in CAPABILITIES:
            raise UsageError(f'--can: there is no verb "{word}"', did_you_mean(word, list(CAPABILITIES)))
    if not words:
        raise UsageError("--can names no verb", "for instance --can train,sample")
    if "train" not in words:
        for word in words:
            if word in NEED_TRAINING:
                raise UsageError(f"--can: the plugin that is written learns to {word}", f"--can train,{word}")
    return tuple(verb for verb in CAPABILITIES if verb in words)


def _require_free(registry: object, name: str, module: str) -> None:
    """Raise UsageError for a name that an algorithm has already, or that would hide another module."""
    from tinygen.host import Registry

    assert isinstance(registry, Registry)
    taken = [row for row in registry.rows if row.name == name and row.status != "broken"]
    if taken:
        raise UsageError(f'there is an algorithm "{name}" already, in {taken[0].provider}', "choose another name")
    place = module_root(module)
    if module in sys.stdlib_module_names or (place and Path(place).resolve().parent != Path.cwd()):
        raise UsageError(f'"{name}" is the name of another Python module', "choose another name")


# ---------------------------------------------------------------- the sources


def _sources(name: str, family: str, verbs: tuple[str, ...], module: str, package: bool) -> dict[str, str]:
    """The files by their paths."""
    kind = MIXTURE if "train" in verbs else WAVES
    names = [CAPABILITIES[verb].__name__ for verb in verbs]
    imported = [*names, *(["Step"] if "train" in verbs else []), "check_range", "equation"]
    own = ["AlgorithmSpec", "Checks", "hookimpl"]
    home = f"{module}.model" if package else module
    text = _template(f"{kind}.py").replace("COMMON\n", _template("common.py"))
    words = {
        "my_plugin": name, "my_name": name, "my_family": family,
        "MyPlugin": _class_name(name, {*re.findall(r"\w+", text), *imported, *own}),
        "MODULE:": f"{home}:", "MODULE as plugin": f"{home} as plugin", "MODULE": module, "PROJECT": name,
        "BASES": ", ".join(names), "SUMMARY": SUMMARIES[kind], "VERBS": _tuple(verbs), "PAPERS": PAPERS[kind],
        "SMALL": SMALL[kind], "COMMAND": " ".join(["tinygen", verbs[0], name, *_words_for(verbs[0])]),
        "DATA": ", ".join(each for each in DATA if DATA[each] in ("", *verbs)),
        "IMPORTS": _imports(imported if package else imported + own),
        "CHECKED": "str(Path(__file__)" + (".parents[1])" if package else f'.with_name("{module}.py"))'),
    }  # fmt: skip
    model, spec, test = (_fill(_for_verbs(each, verbs), words) for each in (
        text, _template("spec.py"), _template(f"test_{kind}.py"),
    ))  # fmt: skip
    if not package:
        return {f"{module}.py": model.rstrip() + "\n" + spec, f"test_{module}.py": test}
    front = f'"""What the plugin {name} brings."""\n\nfrom tinygen.host import {", ".join(own)}\n'
    return {
        "pyproject.toml": _fill(_template("pyproject.toml"), words),
        "README.md": _fill(_template("README.md"), words),
        f"{module}/__init__.py": front + spec,
        f"{module}/model.py": model.rstrip() + "\n",
        f"tests/test_{module}.py": test,
    }


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")


def _for_verbs(text: str, verbs: tuple[str, ...]) -> str:
    """The lines that belong to one of the verbs, or to every plugin."""
    lines, wanted = [], True
    for line in text.splitlines():
        if line.startswith("#: "):
            parts = line.removeprefix("#: ").split()
            wanted = parts == ["end"] or any(verb in verbs for verb in parts)
        elif wanted:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _fill(text: str, words: dict[str, str]) -> str:
    """The text with each word replaced, the longest first; what has been put in stays as it is."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: words[found[0]], text)


def _class_name(name: str, taken: set[str]) -> str:
    """The name of the class, another than those that the file has already: of "step", StepPlugin."""
    words = "".join(part.capitalize() for part in re.split("[_-]", name))
    return f"{words}Plugin" if words in taken else words


def _tuple(verbs: tuple[str, ...]) -> str:
    return "(" + ", ".join(f'"{verb}"' for verb in verbs) + ("," if len(verbs) == 1 else "") + ")"


def _imports(names: list[str]) -> str:
    """Names as an import statement holds them: classes before functions, in brackets where they are many."""
    ordered = sorted(names, key=lambda each: (each[0].islower(), each))
    line = ", ".join(ordered)
    if len(line) <= 90:
        return line
    return "(\n" + "".join(f"    {each},\n" for each in ordered) + ")"


# ---------------------------------------------------------------- writing


def _write(root: Path, files: dict[str, str]) -> None:
    """Write all files, or none where one of them is there already."""
    there = [name for name in files if (root / name).exists()]
    if there:
        raise UsageError(f"{root / there[0]} is there already", "choose another name, or another folder with --out")
    try:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written: {error.strerror}", "choose another --out") from error


def _write_ledger(root: Path, test: str) -> bool:
    """Run the test of the equation, which writes the ledger; False where the kit for tests is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("pytest", "hypothesis")):
        return False
    options = ["-q", "--equations", "--backend", "numpy", "-p", "no:cacheprovider", "--rootdir", "."]
    if not (root / "pyproject.toml").is_file():  # nor that of a project around it
        options += ["-c", os.devnull]
    command = [sys.executable, "-m", "pytest", *options, "-k", "not keeps_its_promises", test]
    with tempfile.TemporaryDirectory() as notes:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": notes}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0
