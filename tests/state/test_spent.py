"""Sums and reservations of several ledgers and servers in one state."""

from pathlib import Path
from typing import Any

import pytest

from ccfallback import files
from ccfallback.policy.spend import Spent
from ccfallback.state.sections import Entry, Sections, merge
from ccfallback.state.spent import (
    HELD,
    HELD_SECONDS,
    SPENT,
    Held,
    entry_key,
    find_spent_elsewhere,
    held_elsewhere,
    identify_ledger,
    is_later,
    make_sum,
    spent_elsewhere,
)

NOON = 1_763_985_600.0
"""2025-11-24, far from the end of a day or a month in any time zone."""

DAY = 86_400.0


def test_other_ledgers_count_in_the_same_day_and_month() -> None:
    entries = {
        entry_key("own", "a"): make_sum(Spent(1, 10), NOON),
        entry_key("x", "a"): make_sum(Spent(2, 20), NOON),
        entry_key("y", "a"): make_sum(Spent(4, 40), NOON - DAY),
        entry_key("z", "a"): make_sum(Spent(8, 80), NOON - 40 * DAY),
        entry_key("x", "token a/b"): make_sum(Spent(16, 160), NOON),
    }
    assert spent_elsewhere(entries, "own", "a", NOON) == Spent(2, 60)
    assert spent_elsewhere(entries, "own", "token a/b", NOON) == Spent(16, 160)
    assert spent_elsewhere(entries, "", "a", NOON) == Spent(3, 70)


def test_reservations_of_a_server_that_died_end() -> None:
    entries = {
        entry_key("own", "a"): Held(1, NOON * 1000),
        entry_key("x", "a"): Held(2, NOON * 1000),
        entry_key("dead", "a"): Held(4, (NOON - HELD_SECONDS) * 1000),
        entry_key("x", "b"): Held(8, NOON * 1000),
    }
    assert held_elsewhere(entries, "own", "a", NOON + 1) == 2


def test_servers_that_have_ended_leave_no_reservations() -> None:
    sections: Sections = {}
    for start in range(60):
        for account in range(25):
            key = entry_key(f"{start:016x}", f"token:mate{account}")
            for nano in (5, 0):
                written = [Entry(HELD, key, Held(nano, (NOON + start) * 1000))]
                sections = {**sections, **merge(sections, written)}
    assert sections["held"] == {}
    # One that dies gives nothing back.
    for at, key in ((NOON, "dead"), (NOON + 9 * HELD_SECONDS, "alive")):
        sections = {**sections, **merge(sections, [Entry(HELD, key, Held(5, at * 1000))])}
    assert list(HELD.read(sections)) == ["dead", "alive"]
    at = NOON + 11 * HELD_SECONDS
    after = merge(sections, [Entry(HELD, "new", Held(1, at * 1000))])
    assert list(HELD.read(after)) == ["alive", "new"]
    assert merge({}, [Entry(HELD, "new", Held(0, NOON))]) == {}


def test_sums_of_a_past_month_are_removed_and_foreign_entries_stay() -> None:
    old, new = make_sum(Spent(1, 1), NOON - 40 * DAY), make_sum(Spent(0, 9), NOON)
    foreign: dict[str, Any] = {"x/a": {"year": 2031}, "y/a": 7}
    sections: Sections = {"spent": {**foreign, "dead/a": SPENT.encode(old)}}
    yesterday = make_sum(Spent(4, 4), NOON - DAY)
    sections = {**sections, **merge(sections, [Entry(SPENT, "ended/a", yesterday)])}
    assert list(sections["spent"]) == ["x/a", "y/a", "ended/a"]
    after = merge(sections, [Entry(SPENT, "own/a", new)])["spent"]
    assert list(after) == ["x/a", "y/a", "ended/a", "own/a"]
    assert {name: after[name] for name in foreign} == foreign
    # A server whose clock is behind removes nothing.
    assert list(merge({"spent": after}, [Entry(SPENT, "late/a", old)])["spent"])[:-1] == list(after)


def test_a_sum_replaces_a_lower_one_and_that_of_another_day() -> None:
    old = make_sum(Spent(5, 50), NOON)
    assert not is_later(old, old)
    assert not is_later(make_sum(Spent(4, 50), NOON), old)
    assert is_later(make_sum(Spent(6, 50), NOON), old)
    assert is_later(make_sum(Spent(5, 51), NOON), old)
    assert is_later(make_sum(Spent(0, 50), NOON + DAY), old)


def test_a_ledger_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state.json"
    name = identify_ledger(state)
    assert identify_ledger(state) == name
    assert files.is_private(tmp_path / "spend-id")
    (tmp_path / "spend-id").write_text("no name")
    other = identify_ledger(state)
    assert other != name
    sections = merge(
        {},
        [Entry(SPENT, entry_key(each, "a"), make_sum(Spent(3, 4), NOON)) for each in (name, other)],
    )
    assert find_spent_elsewhere(sections, state, "a", NOON) == Spent(3, 4)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "spend-id").unlink()
    monkeypatch.setattr(files, "replace_atomically", refuse)
    assert identify_ledger(state) not in ("", name, other)


@pytest.mark.parametrize("raw", [None, 3, {}, {"day": 1}, {"nano": -1, "at": 2}, {"nano": "1"}])
def test_what_is_no_entry_does_not_count(raw: object) -> None:
    assert SPENT.read({"spent": {"x/a": raw}}) == {}
    assert HELD.read({"held": {"x/a": raw}}) == {}
