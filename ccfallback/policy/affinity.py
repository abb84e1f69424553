"""Whether a session stays with the fallback that has served it, or goes back to the chain's order.

A provider keeps the prompt of a session in a cache for some minutes. The first request after a move
to a provider with a cold cache writes all of it anew, which costs as much as dozens of requests
that read it. So a session stays with a fallback while that is available and its cache is warm, and
goes back at a moment that costs nothing:

| it goes back | because |
|---|---|
| after a pause | the fallback's cache is cold |
| after a compaction | no cache holds the new prompt |
| if the provider that is first again served it a moment ago | that provider's cache is warm |
| if the fallback is not available | it has to |

The third reason holds once an hour only: each time that a flapping provider takes a session back,
it may lose it at once. Times are Unix seconds.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.system import BILLING_MARK
from ccfallback.messages.turns import blocks_of, role_of, string

MOST_SESSIONS: Final = 4096
"""Sessions that are remembered; the one that was silent for longest is forgotten first."""

MOST_PROVIDERS: Final = 4
"""Providers of a session whose last answer is remembered."""

RETURN_PAUSE: Final = 3600.0
"""Seconds from one return to a warm cache to the next."""

NO_REASONS: Final[Mapping[str, str]] = MappingProxyType({})

LONGEST_BEGINNING: Final = 1 << 18
"""Bytes of the messages in which the first turn of a conversation is looked for."""

_JSON: Final = json.JSONDecoder()
_BEFORE_ITEM: Final = re.compile(r"[\s,]*")


class Cause(StrEnum):
    """Why a session goes back; the log holds the value."""

    PAUSE = "pause"
    COMPACTED = "compacted"
    WARM = "warm-cache"
    UNAVAILABLE = "unavailable"


class Session(msgspec.Struct, frozen=True):
    """What is known of a session: of one conversation with one model."""

    provider: str
    """The provider that served it last."""
    served: Mapping[str, float]
    """When each provider last served it, the latest at the end."""
    size: int = 0
    """The bytes of its last request."""
    tokens: int = 0
    """The tokens of its last prompt; 0 if no answer has told."""
    compacted: bytes = b""
    """What the client said of the last compaction."""
    returned: float | None = None
    """When it last went back to a warm cache."""

    @property
    def at(self) -> float:
        """When it was last served."""
        return self.served[self.provider]

    def after(
        self, provider: str, now: float, *, size: int, tokens: int, compacted: bytes
    ) -> "Session":
        """The session once a provider has served a request of it."""
        others = {name: at for name, at in self.served.items() if name != provider}
        while len(others) >= MOST_PROVIDERS:
            del others[next(iter(others))]
        return Session(
            provider,
            {**others, provider: now},
            size,
            tokens or self.tokens,
            compacted or self.compacted,
            self.returned,
        )


class Stay(msgspec.Struct, frozen=True):
    """The session stays with the provider, whose cache is warm."""

    provider: str
    first: str
    """The provider that it would go to otherwise."""
    age: float
    """Seconds since the provider's last answer."""
    tokens: int
    """About how many tokens that one would have to read anew; 0 if that is unknown."""


class Return(msgspec.Struct, frozen=True):
    """The session goes back."""

    provider: str
    """The provider that it goes to."""
    left: str
    cause: Cause
    age: float
    """Seconds since its last answer at the provider that it leaves."""
    why: str = ""
    """Why that provider is not available: a word for the log."""


Decision = Stay | Return


def decide(
    session: Session,
    available: Sequence[str],
    now: float,
    *,
    size: int,
    compacted: bytes,
    ttl: float,
    unavailable: Mapping[str, str] = NO_REASONS,
) -> Decision | None:
    """Decide about the next request of a session; `None` if it has not moved away.

    `available` has the names of the providers that may be tried now, in their order, and
    `unavailable` why others may not. The request has `size` bytes and says `compacted`; a cache
    lives `ttl` seconds.
    """
    if not available or session.provider == available[0]:
        return None
    first, age = available[0], now - session.at
    is_compacted = compacted not in (b"", session.compacted) or 2 * size <= session.size
    cause = _find_cause(session, available, now, ttl, is_compacted=is_compacted)
    if cause is not None:
        why = unavailable.get(session.provider, "") if cause is Cause.UNAVAILABLE else ""
        return Return(first, session.provider, cause, age, why)
    return Stay(session.provider, first, age, session.tokens)


def _find_cause(
    session: Session, available: Sequence[str], now: float, ttl: float, *, is_compacted: bool
) -> Cause | None:
    if session.provider not in available:
        return Cause.UNAVAILABLE
    if not _is_recent(session.at, now, ttl):
        return Cause.PAUSE
    if is_compacted:
        return Cause.COMPACTED
    is_warm = _is_recent(session.served.get(available[0]), now, ttl)
    return Cause.WARM if is_warm and not _is_recent(session.returned, now, RETURN_PAUSE) else None


def _is_recent(at: float | None, now: float, seconds: float) -> bool:
    """Whether a moment is less than so many seconds ago. One in the future, by a clock that was
    set back, is not."""
    return at is not None and 0 <= now - at < seconds


class Sessions:
    """The sessions of a server."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Session | None:
        """The session of that key."""
        return self._sessions.get(key)

    def put(self, key: str, session: Session) -> None:
        """Remember a session, and forget the one that was silent for longest."""
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > self._most:
            self._sessions.popitem(last=False)


def hash_conversation(body: Body) -> str:
    """A hash that all requests of a conversation share: of its system prompt and first user turn.

    Marks of the cache and the attribution line differ between them, so only texts count.
    """
    digest = sha256()
    for content in (body.get("system"), _first_content(body)):
        for text in (string(block, "text") for block in blocks_of(content)):
            if not text.startswith(BILLING_MARK):
                digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _first_content(body: Body) -> Any:
    """The content of the first user turn. No message after it is parsed: there may be many."""
    text = body.member("messages")[:LONGEST_BEGINNING].decode("utf-8", "replace")
    place = 1
    with suppress(ValueError, LookupError, RecursionError):
        while True:
            before = _BEFORE_ITEM.match(text, place)
            found, place = _JSON.raw_decode(text, before.end() if before else place)
            if role_of(found) == "user":
                return found["content"]
    return text
