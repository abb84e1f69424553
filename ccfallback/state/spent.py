"""What accounts have cost, in the state of several servers that each have a ledger of their own.

Each ledger has an entry for each account, with its whole sums: to write it again changes nothing,
and a state that was lost is complete as soon as every server has written once more.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, Final

import msgspec

from ccfallback import files
from ccfallback.policy.spend import Spent
from ccfallback.state.ledger import day_of, month_of
from ccfallback.state.sections import Sections, section_of

HELD_SECONDS: Final = 60.0
"""The reservations of a server count for so long after it has written them: it may have died."""

_KEPT_SECONDS: Final = 10 * HELD_SECONDS
"""Until they are removed: the clock of the server that removes them may be wrong by minutes."""

_Nano = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_ID: Final = re.compile(r"[0-9a-f]{16}")


class Sum(msgspec.Struct, rename="camel"):
    """What an account has cost by one ledger, in nano-dollars."""

    day: str
    month: str
    day_nano: _Nano
    month_nano: _Nano


class Held(msgspec.Struct):
    """What the requests in flight at one server may cost an account, in nano-dollars."""

    nano: _Nano
    at: float
    """When it was written, in Unix milliseconds."""


def _is_of_past_month(entry: Sum, latest: Sum) -> bool:
    return entry.month < latest.month


def _is_given_back(entry: Held, latest: Held) -> bool:
    """Also if its server has died: each start of a server has entries of its own."""
    return entry.nano == 0 or latest.at - entry.at > _KEPT_SECONDS * 1000


SPENT: Final = section_of(Sum, "spent", 1024, _is_of_past_month)
HELD: Final = section_of(Held, "held", 1024, _is_given_back)


def entry_key(owner: str, account: str) -> str:
    """The name of an entry: of a ledger in `SPENT`, of a server in `HELD`."""
    return f"{owner}/{account}"


def make_sum(spent: Spent, at: float) -> Sum:
    """The entry of a ledger at a moment."""
    return Sum(day_of(at), month_of(at), spent.day, spent.month)


def is_later(new: Sum, old: Sum) -> bool:
    """Whether a sum of the same ledger and account counts more, or another day."""
    is_same_day = new.day == old.day and new.month == old.month
    return not is_same_day or new.day_nano > old.day_nano or new.month_nano > old.month_nano


def spent_elsewhere(entries: Mapping[str, Sum], ledger: str, account: str, at: float) -> Spent:
    """What an account has cost by all other ledgers, in the day and month of a moment."""
    others = _others(entries, ledger, account)
    day, month = day_of(at), month_of(at)
    return Spent(
        sum(each.day_nano for each in others if each.day == day),
        sum(each.month_nano for each in others if each.month == month),
    )


def held_elsewhere(entries: Mapping[str, Held], server: str, account: str, at: float) -> int:
    """What the requests in flight at all other servers may cost an account."""
    others = _others(entries, server, account)
    return sum(each.nano for each in others if abs(at - each.at / 1000) < HELD_SECONDS)


def find_spent_elsewhere(sections: Sections, state: Path, account: str, at: float) -> Spent:
    """What an account has cost by all ledgers but the one next to the state file."""
    return spent_elsewhere(SPENT.read(sections), _read_id(state), account, at)


def identify_ledger(state: Path) -> str:
    """The name of the ledger next to a state file, made at random when it is first needed.

    Where it can't be kept, it lasts as long as this process.
    """
    path, new = _id_path(state), token_hex(8)
    try:
        with files.locked(path):
            found = _read_id(state)
            if not found:
                files.replace_atomically(path, new.encode())
            return found or new
    except (OSError, files.Busy):
        return new


def _id_path(state: Path) -> Path:
    return state.with_name("spend-id")


def _read_id(state: Path) -> str:
    try:
        found = files.read_regular(_id_path(state)).decode("latin-1").strip()
    except OSError:
        return ""
    return found if _ID.fullmatch(found) else ""


def _others(entries: Mapping[str, Any], owner: str, account: str) -> list[Any]:
    own = entry_key(owner, account)
    return [
        each for key, each in entries.items() if key != own and key.partition("/")[2] == account
    ]
