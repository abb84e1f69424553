"""The breaker state in a JSON file, which the server and any number of commands share.

An update reads the file under its lock, changes only what it is about, and keeps unknown keys, so
a `breaker reset` and a failure at the same moment never erase each other.
"""

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback import files
from ccfallback.errors import StateError
from ccfallback.files import Busy
from ccfallback.policy.breaker import CLOSED, BreakerState, as_last_seen
from ccfallback.policy.learned import LearnedRejection
from ccfallback.state.sections import Entry, merge, read_sections
from ccfallback.state.store import LocalSlots, ProbeSlots, Snapshot, States, Update

VERSION: Final = 1

_LATEST_MS: Final = 253_402_300_800_000
"""The year 10000; a later time is not one that ccfallback wrote."""


class StateFile:
    """The state in one JSON file; a `StateStore`.

    An update waits up to `patience` seconds for the lock that another process holds. If the state
    is `synced_later`, an update leaves the disk to `sync`, which is called within a second: when
    the machine crashes before, the state is that of the last `sync`.
    """

    def __init__(self, path: Path, *, patience: float = 10.0, synced_later: bool = False) -> None:
        self.path = path
        self._synced_later = synced_later
        self.is_unsynced = False
        self._last: tuple[object, dict[str, Any], States] = (None, {}, {})
        """The version of the file that was written last, its content, and the states in that."""
        self.slots: ProbeSlots = LocalSlots()
        self._watched = files.WatchedFile(path)
        self._patience = patience

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether the file is still the one that was read; see `WatchedFile.is_still`."""
        return self._watched.is_still(snapshot.version)

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the file holds, or `held` itself if the file is still the same.

        Content that cannot be read is set aside and counts as empty, as does a missing file. While
        the disk fails, this is what was held, with a `problem` and no version.
        """
        # Before reading: a write by another process during the read makes a newer version.
        version = self._watched.look()
        if held is not None and held.version == version:
            return held
        try:
            return _snapshot(self._document(), version)
        except files.NotRegularFile as error:
            return Snapshot(version=version, problem=str(error.strerror))
        except (_CorruptError, OSError) as error:
            if _stays_unreadable(error):
                return Snapshot(version=version, set_aside=self._move_corrupt())
            problem = str(getattr(error, "strerror", None) or error)
            return replace(held or Snapshot(), version=None, set_aside=None, problem=problem)

    def peek(self) -> Snapshot:
        """What the file holds, and why it can't be read; it stays where it is."""
        version = self._watched.look()
        try:
            return _snapshot(self._document(), version)
        except _CorruptError:
            return Snapshot(version=version, problem="it is not a JSON object")
        except OSError as error:
            return Snapshot(version=version, problem=f"it can't be read: {error.strerror or error}")

    def update(self, change: Update, entries: Iterable[Entry] = ()) -> Snapshot:
        """Change what the file holds now; raises `StateError` if it is locked or can't be written.

        Content that cannot be read is set aside first.
        """
        try:
            with files.locked(self.path, self._patience):
                return self._update(change, entries)
        except Busy as error:
            raise StateError(error.message, error.hint) from error
        except OSError as error:
            raise StateError(
                f"{self.path} can't be written: {error.strerror or error}",
                "check the permissions of the file and its folder, and the free space on the disk",
            ) from error

    def sync(self) -> None:
        """Bring the last update to the disk. Raises `Busy` or `OSError`."""
        with files.locked(self.path, self._patience):
            files.sync(self.path)
        self.is_unsynced = False

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _update(self, change: Update, entries: Iterable[Entry]) -> Snapshot:
        set_aside = None
        # As for a load: scripts write without the lock.
        version = self._watched.look()
        last, document, before = self._last
        if version is None or version != last:
            try:
                document = self._document()
            except (_CorruptError, OSError) as error:
                if not _stays_unreadable(error):
                    raise
                set_aside = _move_aside(self.path)
                document = {}
            before = _parse_states(document)
        after = change(dict(before))
        sections = merge(read_sections(document), entries)
        if after == before and not sections:
            return Snapshot(before, read_sections(document), version, set_aside)
        document = {"version": VERSION, **document, **sections}
        document["providers"] = tables = _encode_states(after, document.get("providers"), before)
        # From what a reader finds, because times are rounded.
        after = {
            name: before[name]
            if state is before.get(name)
            else _parse_provider(tables[_text(name)])
            for name, state in after.items()
        }
        data = msgspec.json.encode(document) + b"\n"
        # A response waits for this write.
        later = self._synced_later and files.keep_synced(self.path)
        version = files.replace_atomically(self.path, data, durable=False, synced=not later)
        self.is_unsynced = self.is_unsynced or later
        self._last = version, document, after
        return Snapshot(after, read_sections(document), version, set_aside)

    def _document(self) -> dict[str, Any]:
        try:
            data = files.read_regular(self.path)
        except FileNotFoundError:
            return {}
        try:
            return _decode(data)
        except _CorruptError:
            try:
                return _decode(files.read_kept(self.path))
            except OSError:
                pass
            raise

    def _move_corrupt(self) -> str | None:
        """Set a corrupt file aside, unless another process has already replaced it."""
        try:
            with files.locked(self.path, self._patience):
                try:
                    self._document()
                except (_CorruptError, OSError) as error:
                    if _stays_unreadable(error):
                        return _move_aside(self.path)
        except (OSError, Busy):
            # The folder is read-only: the file stays and still counts as empty.
            return None
        return None


def set_aside_files(path: Path) -> list[Path]:
    """Earlier state files that could not be read, which were moved aside."""
    target = files.real(path)
    return sorted(target.parent.glob(f"{glob.escape(target.name)}.corrupt-*"))


class _CorruptError(Exception):
    """The file is not a JSON object."""


def _decode(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise _CorruptError from None
    if not isinstance(document, dict):
        raise _CorruptError
    return document


def _stays_unreadable(error: Exception) -> bool:
    """Whether the content can't be read later either.

    Windows calls it a lack of permission while another process has the file open.
    """
    if isinstance(error, PermissionError):
        return getattr(error, "winerror", None) is None
    return isinstance(error, _CorruptError)


def _move_aside(path: Path) -> str:
    files.require_regular(path)
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = files.real(path)
    aside = target.with_name(f"{target.name}.corrupt-{when}")
    os.replace(target, aside)  # noqa: PTH105  (as in files.py)
    return str(aside)


def _snapshot(
    document: Mapping[str, Any], version: object, set_aside: str | None = None
) -> Snapshot:
    return Snapshot(_parse_states(document), read_sections(document), version, set_aside)


def _parse_states(document: Mapping[str, Any]) -> States:
    return {
        name: _parse_provider(table)
        for name, table in _mapping(document.get("providers")).items()
        if isinstance(table, dict)
    }


def _parse_provider(table: Mapping[str, Any]) -> BreakerState:
    """The state in a provider's table.

    The documented keys tell it as the credential meets it that was used last. Two more keys hold
    what concerns everyone and what concerns each credential. They count only while the documented
    keys say the same, because a script may have changed those.
    """
    told = _parse_state(table)
    if not isinstance(table.get("everyone"), dict):
        return told
    parts = _parse_parts(table)
    seen = as_last_seen(parts)
    same = replace(told, about=seen.about, learned=(), credentials={}) == replace(
        seen, learned=(), credentials={}
    )
    return replace(parts, learned=told.learned, about=told.about) if same else told


def _parse_parts(table: Mapping[str, Any]) -> BreakerState:
    credentials = _parse_table_states(table.get("credentials"))
    return replace(_parse_state(_mapping(table.get("everyone"))), credentials=credentials)


def _parse_table_states(value: Any) -> dict[str, BreakerState]:
    return {
        name: _parse_state(table)
        for name, table in _mapping(value).items()
        if isinstance(table, dict)
    }


def _parse_state(table: Mapping[str, Any]) -> BreakerState:
    failures, reason = table.get("consecutiveFailures"), table.get("reason")
    about = table.get("fingerprint")
    models = {
        name: _parse_state({**known, "models": None})
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
        probed=_seconds(table.get("probed")),
        about=about if isinstance(about, str) else None,
        models=models or CLOSED.models,
        learned=_parse_learned(table.get("learned")),
    )


def _parse_learned(value: Any) -> tuple[LearnedRejection, ...]:
    found = []
    for entry in value if isinstance(value, list) else ():
        table = _mapping(entry)
        rectifier, model, text = (table.get(key) for key in ("rectifier", "model", "message"))
        until, fingerprint = _seconds(table.get("until")), table.get("fingerprint")
        if (
            isinstance(rectifier, str)
            and isinstance(model, str)
            and isinstance(text, str)
            and until is not None
        ):
            subject = fingerprint if isinstance(fingerprint, str) else ""
            found.append(LearnedRejection(rectifier, model, text, until, subject))
    return tuple(found)


def _encode_states(
    states: Mapping[str, BreakerState], existing: Any, known: Mapping[str, BreakerState]
) -> dict[str, Any]:
    """The states as the file holds them, with the unknown keys of the `existing` tables.

    Those tables are of the `known` states, and stay as they are where nothing has changed.
    """
    before = _mapping(existing)
    tables = {}
    for name, state in states.items():
        old = _mapping(before.get(name))
        if old and state is known.get(name):
            tables[name] = old
            continue
        parts: dict[str, Any] = {}
        if state.credentials:
            old_parts = _mapping(old.get("credentials"))
            everyone = replace(state, about=None)
            parts["everyone"] = _encode_with_models(everyone, old.get("everyone"))
            parts["credentials"] = {
                _text(each): _encode_with_models(own, old_parts.get(each))
                for each, own in state.credentials.items()
            }
            # From what a reader finds, because times are rounded.
            state = replace(
                as_last_seen(_parse_parts(parts)), about=state.about, learned=state.learned
            )
        kept = {key: value for key, value in old.items() if key not in _PARTS}
        table = _encode_with_models(state, kept) | parts
        if state.learned or "learned" in table:
            table["learned"] = [
                {
                    "rectifier": rejection.rectifier,
                    "model": _text(rejection.model),
                    "message": _text(rejection.text),
                    "until": _milliseconds(rejection.until),
                    "fingerprint": rejection.fingerprint,
                }
                for rejection in state.learned
            ]
        tables[_text(name)] = table
    return tables


_PARTS: Final = frozenset({"everyone", "credentials"})
"""The keys besides the documented ones, if anything concerns single credentials."""


def _encode_with_models(state: BreakerState, existing: Any) -> dict[str, Any]:
    table = _encode_state(state, existing)
    # The states of single models nest no deeper.
    models = _mapping(table.get("models"))
    table["models"] = {
        _text(model): _encode_state(known, models.get(model))
        for model, known in state.models.items()
    }
    return table


def _encode_state(state: BreakerState, existing: Any) -> dict[str, Any]:
    optional = {"probed": _milliseconds(state.probed), "fingerprint": state.about}
    return {
        **{key: value for key, value in _mapping(existing).items() if key not in optional},
        "consecutiveFailures": state.failures,
        "lastFailure": _milliseconds(state.last_failure),
        "lastSuccess": _milliseconds(state.last_success),
        "cooldownUntil": _milliseconds(state.cooldown_until),
        "cooldownBegan": _milliseconds(state.cooldown_began),
        "reason": None if state.reason is None else _text(state.reason),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: str) -> str:
    # A client may send half a surrogate pair in a model's name, which UTF-8 cannot encode.
    return value.encode("utf-8", "replace").decode()


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if 0 <= value <= _LATEST_MS else None


def _milliseconds(value: float | None) -> int | None:
    if value is None or not 0 <= value * 1000 <= _LATEST_MS:
        return None
    return round(value * 1000)
