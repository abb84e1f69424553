"""What small real requests have shown of the providers: the results of `drill --live`.

Importing this is quick: the status line needs it after every message.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ccfallback.state import read_quickly
from ccfallback.state.sections import section_of

if TYPE_CHECKING:
    from ccfallback.paths import Paths


class Check(msgspec.Struct, rename="camel"):
    """The result of one request to one provider; the status line reads no more of it."""

    at: float
    """Unix milliseconds."""
    ok: bool = False
    fingerprint: str = ""
    """What the provider was when it was checked: server, format and key."""
    model: str = ""
    mapped_to: str = ""
    status: int | None = None
    seconds: float | None = None
    message: str = ""
    repairs: list[str] = []
    """What had to be changed in the request before the provider took it."""
    cost: float | None = None
    """US dollars; `None` if the price is unknown."""


CHECKS: Final = section_of(Check, "checks", most=64)
"""The key of an entry is the provider's name."""


class Claim(msgspec.Struct):
    """Which of the servers that share a state checks the chain, and since when."""

    by: str
    at: float
    """Unix milliseconds."""


CLAIMS: Final = section_of(Claim, "checkers", most=1)
CLAIM: Final = "chain"
"""The only entry of `CLAIMS`."""


class Summary(NamedTuple):
    """The last check of the chain."""

    at: float
    """When the first of its providers was checked, in Unix seconds."""
    ready: int
    of: int
    failed: tuple[str, ...]


def summarize(checks: Mapping[str, Check], names: Iterable[str]) -> Summary | None:
    """The last check of the providers with these names; `None` if none was checked."""
    found = {name: checks[name] for name in names if name in checks}
    if not found:
        return None
    failed = tuple(name for name, each in found.items() if not each.ok)
    at = min(each.at for each in found.values()) / 1000
    return Summary(at, len(found) - len(failed), len(found), failed)


class _State(msgspec.Struct):
    checks: dict[str, Check] = {}


def quick_summary(paths: "Paths", names: Iterable[str]) -> Summary | None:
    """The last check of the providers with these names, without a look at the configuration."""
    return summarize(read_quickly(paths, _State).checks, names)
