"""The kit itself: what a check is, and how checks are run one after the other.

    @check("training.parameters-learn", "every parameter moves", mend="…", needs=("contract.fit",), verbs=("train",))
    def parameters_learn(subject): ...

A check is a function of a Subject that returns where all is well, raises Finding where it is not, and raises Absent
where there is nothing to ask. Its id is `group.name` and stays what it is: plugins, suites and the documents name it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tinygen.errors import TinygenError, UsageError, did_you_mean
from tinygen.host import AlgorithmSpec
from tinygen.host.providers import describe
from tinygen.testing.conformance.subject import Absent, Finding, Subject

GROUPS = ("contract", "mathematics", "training", "determinism", "backends", "documents")
Status = Literal["passed", "failed", "expected", "skipped", "absent"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is asked of an algorithm."""

    id: str
    title: str  # what must hold
    mend: str  # what to do where it does not
    needs: tuple[str, ...]  # checks that must pass before this one has a meaning
    verbs: tuple[str, ...]  # it is asked of algorithms with one of these; of all where there is none
    each_backend: bool  # a suite that runs on several backends asks it on each of them
    function: Callable[[Subject], None]

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]

    def concerns(self, spec: AlgorithmSpec) -> bool:
        """Whether it can be asked of an algorithm with these verbs."""
        return not self.verbs or any(verb in spec.verbs for verb in self.verbs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one check of one algorithm."""

    algorithm: str
    check: Check
    status: Status  # expected: it fails as the plugin said it would; absent: there is nothing to ask
    message: str = ""
    seconds: float = 0.0


CHECKS: dict[str, Check] = {}  # by id, each after those that it needs


def check(
    identity: str, title: str, *, mend: str, needs: tuple[str, ...] = (), verbs: tuple[str, ...] = (),
    each_backend: bool = False,
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:  # fmt: skip
    """Enter a function among CHECKS."""
    assert identity.partition(".")[0] in GROUPS, identity
    assert identity not in CHECKS and all(need in CHECKS for need in needs), identity

    def enter(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        CHECKS[identity] = Check(identity, title, mend, needs, verbs, each_backend, function)
        return function

    return enter


def chosen(words: Sequence[str]) -> list[Check]:
    """The checks that these ids and groups name, with all that they need; every check where there is no word."""
    ids: set[str] = set()
    for word in words or GROUPS:
        found = {name for name, each in CHECKS.items() if word in (name, each.group)}
        if not found:
            raise UsageError(f'there is no check "{word}"', did_you_mean(word, [*GROUPS, *CHECKS]))
        ids |= found
    for each in reversed(CHECKS.values()):  # what is needed stands before what needs it
        if each.id in ids:
            ids.update(each.needs)
    return [each for name, each in CHECKS.items() if name in ids]


def run_checks(subject: Subject, checks: Sequence[Check]) -> Iterator[Result]:
    """Ask the checks that concern an algorithm, in their order; one that needs a failed one is skipped."""
    done: dict[str, Result] = {}
    for each in checks:
        if each.concerns(subject.spec):
            done[each.id] = run_check(subject, each, done)
            yield done[each.id]


def run_check(subject: Subject, each: Check, done: dict[str, Result]) -> Result:
    """The result of one check. `done`: those before it by id; a check that is not among them counts as passed."""
    broken = [need for need in each.needs if need in done and done[need].status in ("failed", "expected", "skipped")]
    if broken:
        return Result(
            algorithm=subject.spec.name, check=each, status="skipped", message=f"it needs {', '.join(broken)}"
        )
    began = time.perf_counter()
    status, message = _ask(subject, each)
    reason = subject.spec.checks.expected.get(each.id)
    if reason and status == "failed":
        status, message = "expected", reason
    elif reason:
        status, message = "failed", "it passes, though the plugin says that it fails: take it out of Checks.expected"
    return Result(
        algorithm=subject.spec.name, check=each, status=status, message=message, seconds=time.perf_counter() - began
    )


def _ask(subject: Subject, each: Check) -> tuple[Status, str]:
    """Whatever a plugin raises where a check calls it is a finding, with the place in its files."""
    try:
        each.function(subject)
    except Absent as absent:
        return "absent", str(absent)
    except Finding as finding:
        return "failed", str(finding)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise SystemExit, or anything else
        return "failed", describe(error, subject.place_of(error)) + _hint(error)
    return "passed", ""


def _hint(error: BaseException) -> str:
    return f"; {error.hint}" if isinstance(error, TinygenError) and error.hint else ""


def unknown_expectations(spec: AlgorithmSpec) -> list[str]:
    """What a plugin expects of checks that do not exist."""
    return [name for name in spec.checks.expected if name not in CHECKS]


def as_document(result: Result) -> dict[str, Any]:
    """A result as JSON."""
    return {
        "algorithm": result.algorithm, "id": result.check.id, "group": result.check.group, "status": result.status,
        "title": result.check.title, "message": result.message,
        "mend": result.check.mend if result.status == "failed" else "", "seconds": round(result.seconds, 3),
    }  # fmt: skip
