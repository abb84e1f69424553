"""The breaker state file, which the server and any number of commands share.

One rule: a write changes what the file says now, under its lock, and nothing else in it, so
that a `breaker reset` and a failure never erase each other. Keys that are not known here are
left as they are.
"""

import glob
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback import files
from ccfallback.errors import StateError
from ccfallback.files import Busy, Stamp
from ccfallback.policy.breaker import CLOSED, BreakerState
from ccfallback.policy.learned import LearnedRejection

States = dict[str, BreakerState]

VERSION: Final = 1

_LATEST_MS: Final = 253_402_300_800_000
"""The year 10000: no clock of ours writes a later time."""


class StateFile:
    """One state file, whose lock is waited for with so much `patience`, in seconds."""

    def __init__(self, path: Path, *, patience: float = 10.0) -> None:
        self.path = path
        self._name = str(path)
        self.seen: Stamp | None = None
        """The version that the last read or update found, or made."""
        self.set_aside: Path | None = None
        """Where the last read or update put a file that it could make nothing of."""
        self._patience = patience

    def stamp(self) -> Stamp | None:
        """What tells this version from the next; None if there is no file."""
        return files.stamp(self._name)

    def read(self) -> States:
        """What the file says; empty if it is missing, unreadable or corrupt."""
        self.set_aside = None
        # Before reading: what another process writes meanwhile is another version.
        self.seen = self.stamp()
        try:
            document = self._document()
        except (_CorruptError, PermissionError):
            self._move_corrupt()
            return {}
        except OSError:
            return {}
        return _states(document)

    def look(self) -> tuple[States, str | None]:
        """What the file says, and why it can't be read; it stays where it is."""
        try:
            return _states(self._document()), None
        except _CorruptError:
            return {}, "it is not a JSON object"
        except OSError as error:
            return {}, f"it can't be read: {error.strerror or error}"

    def aside(self) -> list[Path]:
        """Files that were set aside because nothing could be made of them."""
        target = files.real(self.path)
        return sorted(target.parent.glob(f"{glob.escape(target.name)}.corrupt-*"))

    def update(self, change: Callable[[States], States]) -> States:
        """Change what the file says now; a provider missing from the result is taken out of it."""
        self.set_aside = None
        try:
            with files.locked(self.path, self._patience):
                states = self._update(change)
                self.seen = self.stamp()
                return states
        except Busy as error:
            raise StateError(error.message, error.hint) from error
        except OSError as error:
            raise StateError(
                f"{self.path} can't be written: {error.strerror or error}",
                "see to the permissions of the file and its folder, and to the space on the disk",
            ) from error

    def _update(self, change: Callable[[States], States]) -> States:
        try:
            document = self._document()
        except (_CorruptError, PermissionError):
            self.set_aside = _renamed(self.path)
            document = {}
        before = _states(document)
        after = change(dict(before))
        if after == before:
            return before
        document.setdefault("version", VERSION)
        document["providers"] = _tables(after, document.get("providers"))
        # An answer waits for this; a state that is a moment older is no harm after a power cut.
        files.replace_atomically(self.path, msgspec.json.encode(document) + b"\n", settle=False)
        return _states(document)

    def _document(self) -> dict[str, Any]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise _CorruptError from None
        if not isinstance(document, dict):
            raise _CorruptError
        return document

    def _move_corrupt(self) -> None:
        """Put a corrupt file aside, unless another process has done so meanwhile."""
        try:
            with files.locked(self.path, self._patience):
                try:
                    self._document()
                except (_CorruptError, PermissionError):
                    self.set_aside = _renamed(self.path)
        except (OSError, Busy):
            # A folder we may not write to: the file counts as empty all the same.
            return


class _CorruptError(Exception):
    """The file is not a JSON object."""


def _renamed(path: Path) -> Path:
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = files.real(path)
    aside = target.with_name(f"{target.name}.corrupt-{when}")
    os.replace(target, aside)  # noqa: PTH105  (as in files.py)
    return aside


def _states(document: Mapping[str, Any]) -> States:
    return {
        name: _state(table)
        for name, table in _mapping(document.get("providers")).items()
        if isinstance(table, dict)
    }


def _state(table: Mapping[str, Any]) -> BreakerState:
    failures, reason = table.get("consecutiveFailures"), table.get("reason")
    models = {
        name: _state({**known, "models": None})
        for name, known in _mapping(table.get("models")).items()
        if isinstance(known, dict)
    }
    return BreakerState(
        failures=failures if type(failures) is int and 0 <= failures < 1 << 53 else 0,
        last_failure=_seconds(table.get("lastFailure")),
        last_success=_seconds(table.get("lastSuccess")),
        cooldown_until=_seconds(table.get("cooldownUntil")),
        cooldown_began=_seconds(table.get("cooldownBegan")),
        reason=reason if isinstance(reason, str) else None,
        models=models or CLOSED.models,
        learned=_lessons(table.get("learned")),
    )


def _lessons(value: Any) -> tuple[LearnedRejection, ...]:
    found = []
    for entry in value if isinstance(value, list) else ():
        table = _mapping(entry)
        rectifier, model, text = (table.get(key) for key in ("rectifier", "model", "message"))
        until = _seconds(table.get("until"))
        words = isinstance(rectifier, str) and isinstance(model, str) and isinstance(text, str)
        if words and until is not None:
            found.append(LearnedRejection(str(rectifier), str(model), str(text), until))
    return tuple(found)


def _tables(states: Mapping[str, BreakerState], known: Any) -> dict[str, Any]:
    """The states as the file has them, over what is `known` there already."""
    there = _mapping(known)
    tables = {}
    for name, state in states.items():
        table = _table(state, there.get(name))
        # The states of single models nest no deeper.
        models = _mapping(table.get("models"))
        table["models"] = {
            _text(model): _table(known, models.get(model)) for model, known in state.models.items()
        }
        if state.learned or "learned" in table:
            table["learned"] = [
                {
                    "rectifier": lesson.rectifier,
                    "model": _text(lesson.model),
                    "message": _text(lesson.text),
                    "until": _milliseconds(lesson.until),
                }
                for lesson in state.learned
            ]
        tables[_text(name)] = table
    return tables


def _table(state: BreakerState, known: Any) -> dict[str, Any]:
    there = _mapping(known)
    return {
        **there,
        "consecutiveFailures": state.failures,
        "lastFailure": _milliseconds(state.last_failure),
        "lastSuccess": _milliseconds(state.last_success),
        "cooldownUntil": _milliseconds(state.cooldown_until),
        "cooldownBegan": _milliseconds(state.cooldown_began),
        "reason": None if state.reason is None else _text(state.reason),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: str) -> str:
    # A client may send half a surrogate pair as a model's name, which no file can hold.
    return value.encode("utf-8", "replace").decode()


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if 0 <= value <= _LATEST_MS else None


def _milliseconds(value: float | None) -> int | None:
    if value is None or not 0 <= value * 1000 <= _LATEST_MS:
        return None
    return round(value * 1000)
