"""The hooks that a plugin may implement. pluggy matches them by name and checks their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from tinygen.host.contract import AlgorithmSpec, DatasetSpec

PROJECT = "tinygen"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def tinygen_algorithms() -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]
    """The algorithms that this plugin brings. Called once, when the host looks for plugins."""


@hookspec
def tinygen_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """The data sets that this plugin brings."""


@hookspec
def tinygen_callbacks(run: Any) -> Iterable[Any]:  # type: ignore[empty-body]
    """Callbacks for one run (tinygen.run.Run): objects with any of the methods `on_start(run)`, `on_log(run, step,
    metrics)`, `on_checkpoint(run, step)`, `on_end(run)`. Called once a run; no hook is called per step."""
