"""Makes a script that fails as short as it can be."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from tests.simulation.scripts import Script

MOST_RUNS: Final = 300


def shrink(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The shortest script found that still fails; `fails` runs one."""
    runs = 0

    def still_fails(shorter: Script) -> bool:
        nonlocal runs
        runs += 1
        return runs <= MOST_RUNS and fails(shorter)

    def with_events(events: Sequence[Any]) -> Script:
        return replace(script, events=list(events))

    script = with_events(_shorten(script.events, lambda part: still_fails(with_events(part))))
    for number in reversed(range(len(script.sessions))):
        others = [*script.sessions[:number], *script.sessions[number + 1 :]]
        if others and still_fails(replace(script, sessions=others)):
            script = replace(script, sessions=others)
    for number in range(len(script.sessions)):
        script = _shorten_session(script, number, still_fails)
    return with_events(_shorten(script.events, lambda part: still_fails(with_events(part))))


def _shorten_session(script: Script, number: int, fails: Callable[[Script], bool]) -> Script:
    def with_turns(turns: Sequence[Any]) -> Script:
        sessions = list(script.sessions)
        sessions[number] = {**sessions[number], "turns": list(turns)}
        return replace(script, sessions=sessions)

    turns = script.sessions[number]["turns"]
    return with_turns(_shorten(turns, lambda part: fails(with_turns(part))))


def _shorten(items: Sequence[Any], fails: Callable[[Sequence[Any]], bool]) -> Sequence[Any]:
    """Leave out as much as possible: halves first, then ever smaller parts."""
    size = max(1, len(items) // 2)
    while size:
        start = 0
        while start < len(items):
            shorter = [*items[:start], *items[start + size :]]
            if fails(shorter):
                items = shorter
            else:
                start += size
        size //= 2
    return items
