"""Mathematics: the equations are tested, and the derivatives that training uses are derivatives.

Let L(θ) be a loss of the first update, g what the tape says is its gradient by the parameters θ that it reaches, and v
a random direction. Then ⟨g, v⟩ must be the slope (L(θ + hv) − L(θ − hv)) / 2h; and the derivative of ⟨g, v⟩, again by
the tape, the slope of ⟨g(θ), v⟩. What L is, is told by running the update again: a path from θ to L that the tape
does not see (a `detach`, a round trip through NumPy, an operation with a wrong rule) is in the slope and not in g.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

from tinygen.host.describe import equations_of, ledger_entry, verifications
from tinygen.host.equation import Equation, ledger_path
from tinygen.testing.conformance.kit import check
from tinygen.testing.conformance.probe import Arrays, Loss, Replay
from tinygen.testing.conformance.subject import Absent, Finding, Subject
from tinygen.testing.conformance.where import at

LENGTH, RTOL, ATOL = 1e-5, 1e-4, 1e-7  # LENGTH: of the way that the parameters go, √Σ (hv)²
DIRECTIONS = 4  # tried, with ever shorter ways, before a slope that differs is a finding: there may be kinks

# ---------------------------------------------------------------- equations


@check(
    "mathematics.equations",
    "the algorithm's formulas are functions under @equation",
    mend='write @equation(r"LaTeX", source="Authors year, eq. n") above each function that computes a formula, and '
    "call that function in training",
    needs=("contract.loads",),
)
def equations(subject: Subject) -> None:
    if not equations_of(subject.spec, subject.factory):
        raise Finding(f"{subject.module.__name__} declares no equation")


@check(
    "mathematics.verified",
    "by the ledger, a property test verifies every equation as it is printed now",
    mend="write a hypothesis test under @verifies(plugin.equation), and then the ledger: pytest --equations",
    needs=("mathematics.equations",),
)
def verified(subject: Subject) -> None:
    for each in equations_of(subject.spec, subject.factory):
        path = ledger_path(sys.modules[each.function.__module__])
        if not path.is_file():
            raise Finding(f"there is no ledger {path}: nothing tells which tests verify {each.name}")
        if not verifications(each):
            raise Finding(f"no property test verifies {each.name}{at(f'{each.file}:{each.line}')}")
        entry = ledger_entry(each)
        if (entry["latex"], entry["source"]) != (each.latex, each.source):
            raise Finding(f"{each.name} is another formula in {path}: the ledger is older than the equation")


@check(
    "mathematics.tests",
    "the tests that verify its equations pass",
    mend="run the test that is named: either the equation or the test has the sign or the factor wrong",
    needs=("mathematics.verified",),
)
def tests(subject: Subject) -> None:
    if not all(importlib.util.find_spec(name) for name in ("pytest", "hypothesis")):
        raise Absent("the kit for tests is not installed: pip install 'tinygen[test]'")
    found = [each for each in equations_of(subject.spec, subject.factory) if verifications(each)]
    roots = {root for each in found if (root := _root_of_tests(each)) is not None}
    if not roots:
        raise Absent("its tests are not beside it")
    for root in sorted(roots):
        ids = sorted({test for each in found if _root_of_tests(each) == root for test in verifications(each)})
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *ids]
        done = subprocess.run([*command, "--backend", "numpy"], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            raise Finding(lines[0] if lines else f"pytest left with {done.returncode} in {root}: {done.stderr[-200:]}")


def _root_of_tests(each: Equation) -> Path | None:
    """The folder, at the equation's file or above it, from which the ids of the tests that verify it are paths."""
    files = {test.partition("::")[0] for test in verifications(each)}
    above = Path(each.file).resolve().parents
    return next((root for root in above if files and all((root / file).is_file() for file in files)), None)


# ---------------------------------------------------------------- derivatives


@check(
    "mathematics.repeatable",
    "with the same parameters and streams, an update computes the same losses",
    mend="draw from streams, and keep nothing in variables of the module: only then has a loss a derivative",
    needs=("contract.fit",),
    verbs=("train",),
)
def repeatable(subject: Subject) -> None:
    replay = _replay(subject)
    first, second = replay.at(replay.start), replay.at(replay.start)
    if [loss.value for loss in first] != [loss.value for loss in second]:
        raise Finding("the first update, run twice from one state in float64, has different losses")
    if not first:
        raise Absent("no `backward` or `grad` of the first update reaches a parameter of the algorithm's own")


@check(
    "mathematics.derivatives",
    "the gradient of every loss is the slope of the loss, in float64, by the parameters that it reaches",
    mend="look for a wrong rule in an operation of the plugin's own, and for a path that the tape does not see: "
    "`detach`, `.data`, `numpy()`; what is meant so goes into Checks.expected with its reason",
    needs=("mathematics.repeatable",),
    verbs=("train",),
)
def derivatives(subject: Subject) -> None:
    _compare(subject, "gradient")


@check(
    "mathematics.second-order",
    "so is the gradient's own derivative: the rules can be differentiated again",
    mend="write `backward` of an operation on tensors, with what it saved as tensors (self.saved), not on arrays",
    needs=("mathematics.derivatives",),
    verbs=("train",),
)
def second_order(subject: Subject) -> None:
    _compare(subject, "curvature")


@functools.cache
def _replay(subject: Subject) -> Replay:
    """One for all checks of a subject."""
    return Replay(subject)


def _compare(subject: Subject, what: str) -> None:
    """Hold the tape's derivative of each loss against the slope along a random direction."""
    replay, random = _replay(subject), np.random.default_rng(1)
    pending = dict.fromkeys(range(len(replay.at(replay.start))), "")
    for attempt in range(DIRECTIONS):
        along = {name: random.standard_normal(value.shape) for name, value in replay.start.items()}
        base = replay.at(replay.start, along)
        reached = {frozenset(base[number].gradient) for number in pending}
        for names in reached:
            h = LENGTH / 4**attempt / _size({name: along[name] for name in names})
            ahead, behind = (replay.at(_moved(replay.start, along, names, by)) for by in (h, -h))
            for number in [n for n in pending if frozenset(base[n].gradient) == names]:
                received, expected, scale = _slopes(base[number], ahead[number], behind[number], along, h, what)
                if np.isfinite(received) and abs(received - expected) <= ATOL + RTOL * scale:
                    del pending[number]
                else:
                    pending[number] = f"expected {expected:.6g}, received {received:.6g}"
        if not pending:
            return
    number, difference = next(iter(pending.items()))
    loss = base[number]
    worst = _worst_parameter(replay, loss, number, what, along)
    raise Finding(f"loss {number + 1} of the update{at(loss.place)}: its {what} by {worst} is wrong: {difference}")


def _moved(point: Arrays, along: Arrays, names: frozenset[str], by: float) -> Arrays:
    return {name: value + by * along[name] if name in names else value for name, value in point.items()}


def _slopes(base: Loss, ahead: Loss, behind: Loss, along: Arrays, h: float, what: str) -> tuple[float, float, float]:
    """What the tape says, what two replays say, and the size that their difference is held against."""
    tape = getattr(base, what)
    if what == "gradient":
        slope = (ahead.value - behind.value) / (2 * h)
    else:
        slope = _inner(along, {name: ahead.gradient[name] - behind.gradient[name] for name in tape}) / (2 * h)
    return _inner(along, tape), slope, _size(tape) + abs(slope)


def _inner(a: Arrays, b: Arrays) -> float:
    return float(sum((a[name] * array).sum() for name, array in b.items()))


def _size(a: Arrays) -> float:
    return _inner(a, a) ** 0.5


def _worst_parameter(replay: Replay, loss: Loss, number: int, what: str, along: Arrays) -> str:
    """The parameter along which the tape is off the most."""
    errors = {}
    for name in loss.gradient:
        only = {other: value if other == name else 0 * value for other, value in along.items()}
        base = replay.at(replay.start, only)[number]
        names = frozenset(loss.gradient)
        h = LENGTH / max(_size(only), 1)
        ahead, behind = (replay.at(_moved(replay.start, only, names, by))[number] for by in (h, -h))
        received, expected, _ = _slopes(base, ahead, behind, only, h, what)
        errors[name] = np.nan_to_num(abs(received - expected), nan=np.inf)
    return max(errors, key=lambda name: errors[name])
