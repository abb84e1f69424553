"""The readings of the primary's plan windows in the state, by the login that they are of."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccfallback.policy.quota import Reading
from ccfallback.state.sections import Section

LATEST: Final = 253_402_300_800.0
"""The year 10000, in Unix seconds."""

_TIMES: Final = frozenset({"at", "reset", "back", "budgetReset"})


def _parse(raw: Any) -> Reading:
    reading = msgspec.convert(_scale(raw, 0.001), Reading)
    if any(not 0 <= window.at <= reading.at for window in reading.windows.values()):
        raise ValueError("a window that was read later than the whole")
    if not 0 <= reading.at < LATEST:
        raise ValueError("a time that no clock shows")
    return reading


def _encode(reading: Reading) -> Any:
    return _scale(msgspec.to_builtins(reading), 1000)


def _scale(value: Any, factor: float) -> Any:
    """The value with its times in milliseconds, as the state has them, or in seconds."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, each in value.items():
        if key in _TIMES:
            found[key] = _scale_time(each, factor)
        elif key == "points" and isinstance(each, list | tuple):
            found[key] = [[_scale_time(at, factor), used] for at, used in each]
        else:
            found[key] = _scale(each, factor)
    return found


def _scale_time(value: Any, factor: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return round(value * factor) if factor > 1 else value * factor


QUOTAS: Final = Section("quotas", _parse, _encode, most=32)
"""The key of an entry is made by `quota_key`."""


def quota_key(fingerprint: str, credential: str) -> str:
    """The name of a login's entry: the server it is for, and the hash of its credential."""
    return f"{fingerprint}/{credential}"


def readings_for(entries: Mapping[str, Reading], fingerprint: str) -> dict[str, Reading]:
    """The readings of a server's logins, by the hash of the credential."""
    return {login(key): each for key, each in entries.items() if key.startswith(f"{fingerprint}/")}


def login(key: str) -> str:
    """The hash of the credential in an entry's name; empty if the configuration has the key."""
    return key.partition("/")[2]
