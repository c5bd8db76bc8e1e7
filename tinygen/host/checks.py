"""What a plugin's Config asks of its options, and how it says no: one line, and what to do."""

from __future__ import annotations

from tinygen.errors import UsageError, did_you_mean


def check_range(owner: str, name: str, value: float, low: float, high: float) -> None:
    """Raise UsageError unless low ≤ value ≤ high. owner: the algorithm's name; name: the option's."""
    if not low <= value <= high:
        option = name.replace("_", "-")
        raise UsageError(
            f"{owner}: {name} must be from {low} to {high}, got {value}", f"set --{option} within that range"
        )


def check_choice(owner: str, name: str, value: str, known: list[str]) -> None:
    """Raise UsageError unless the value is one of the known ones. owner, name: as for `check_range`."""
    if value not in known:
        raise UsageError(f"{owner}: {name} must be one of {', '.join(known)}, got {value}", did_you_mean(value, known))
