"""The state as one JSON document, which is the form that stores keep.

`providers` holds the breakers by provider. Unknown keys stay as they are.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ccfallback.policy.breaker import CLOSED, BreakerState, as_last_seen
from ccfallback.policy.learned import LearnedRejection
from ccfallback.state.sections import Entry, merge, read_sections
from ccfallback.state.store import States, Update

VERSION: Final = 1

_NOTHING: Final[dict[str, Any]] = {}

_LATEST_MS: Final = 253_402_300_800_000
"""The year 10000; a later time is not one that ccfallback wrote."""


def apply_update(
    document: Mapping[str, Any], before: States, change: Update, entries: Iterable[Entry]
) -> tuple[dict[str, Any], States] | None:
    """The document after an update, and the states in it; `None` if nothing changes.

    `before` has the states in `document`. Tables of providers that do not change stay the same
    objects.
    """
    after = {
        name: state if state is before.get(name) else _as_read(state)
        for name, state in change(dict(before)).items()
    }
    sections = merge(read_sections(document), entries)
    if after == before and not sections:
        return None
    changed = {"version": VERSION, **document, **sections}
    changed["providers"] = _encode_states(after, document.get("providers"), before)
    return changed, after


def parse_states(
    document: Mapping[str, Any], last: Mapping[str, Any] = _NOTHING, known: States = _NOTHING
) -> States:
    """The states of all providers in a document.

    `known` are those of the `last` document: what is the same there is not parsed again.
    """
    before = _mapping(last.get("providers"))
    return {
        name: known[name] if name in known and table == before.get(name) else parse_provider(table)
        for name, table in _mapping(document.get("providers")).items()
        if isinstance(table, dict)
    }


def parse_provider(table: Mapping[str, Any]) -> BreakerState:
    """The state in a provider's table.

    The documented keys hold the state as the credential sees it that was used last. Two more keys
    hold what concerns everyone and what concerns each credential. They count only while the
    documented keys agree with them, because a script may have changed those.
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


def _as_read(state: BreakerState) -> BreakerState:
    """The state as `parse_provider` finds it in its table: times are whole milliseconds there."""
    credentials = {text(name): _part_as_read(own) for name, own in state.credentials.items()}
    learned = _parse_learned(_encode_learned(state)) if state.learned else ()
    return replace(_part_as_read(state), credentials=credentials, learned=learned)


def _part_as_read(state: BreakerState) -> BreakerState:
    models = state.models and {
        text(name): replace(_part_as_read(each), models=CLOSED.models)
        for name, each in state.models.items()
    }
    return replace(
        state,
        last_failure=_rounded(state.last_failure),
        last_success=_rounded(state.last_success),
        cooldown_until=_rounded(state.cooldown_until),
        cooldown_began=_rounded(state.cooldown_began),
        reason=None if state.reason is None else text(state.reason),
        probed=_rounded(state.probed),
        models=models,
        credentials=CLOSED.credentials,
        learned=(),
    )


def _encode_states(
    states: Mapping[str, BreakerState], existing: Any, known: Mapping[str, BreakerState]
) -> dict[str, Any]:
    """States as they are read, as the file holds them, with the unknown keys of `existing` tables.

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
                text(each): _encode_with_models(own, old_parts.get(each))
                for each, own in state.credentials.items()
            }
            state = as_last_seen(state)
        table = _encode_with_models(state, old)
        # The keys besides the documented ones, if anything concerns single credentials.
        table.pop("everyone", None)
        table.pop("credentials", None)
        table |= parts
        if state.learned or "learned" in table:
            table["learned"] = _encode_learned(state)
        tables[text(name)] = table
    return tables


def _encode_learned(state: BreakerState) -> list[dict[str, Any]]:
    return [
        {
            "rectifier": rejection.rectifier,
            "model": text(rejection.model),
            "message": text(rejection.text),
            "until": _milliseconds(rejection.until),
            "fingerprint": rejection.fingerprint,
        }
        for rejection in state.learned
    ]


def _encode_with_models(state: BreakerState, existing: Any) -> dict[str, Any]:
    table = _encode_state(state, existing)
    # The states of single models nest no deeper.
    models = _mapping(table.get("models"))
    table["models"] = {
        text(model): _encode_state(known, models.get(model))
        for model, known in state.models.items()
    }
    return table


def _encode_state(state: BreakerState, existing: Any) -> dict[str, Any]:
    table = {
        **_mapping(existing),
        "consecutiveFailures": state.failures,
        "lastFailure": _milliseconds(state.last_failure),
        "lastSuccess": _milliseconds(state.last_success),
        "cooldownUntil": _milliseconds(state.cooldown_until),
        "cooldownBegan": _milliseconds(state.cooldown_began),
        "reason": None if state.reason is None else text(state.reason),
    }
    for key, value in (("probed", _milliseconds(state.probed)), ("fingerprint", state.about)):
        table.pop(key, None)
        if value is not None:
            table[key] = value
    return table


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def text(value: str) -> str:
    """A name as UTF-8 can encode it."""
    # A client may send half a surrogate pair in a model's name, which UTF-8 cannot encode.
    return value.encode("utf-8", "replace").decode()


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if 0 <= value <= _LATEST_MS else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else _seconds(_milliseconds(value))


def _milliseconds(value: float | None) -> int | None:
    if value is None or not 0 <= value * 1000 <= _LATEST_MS:
        return None
    return round(value * 1000)
