"""The sessions of a running server: which provider each of them stays with.

They are kept in memory. The state has those that a fallback has served, so that a restart sends
none of them to a cold cache.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from ccfallback.config.model import PRIMARY_NAME, Config, Provider, name_in_label
from ccfallback.events import records as events
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.messages.tools import only_server_tools
from ccfallback.policy.affinity import (
    Cause,
    Decision,
    Return,
    Session,
    Sessions,
    Stay,
    decide,
    hash_conversation,
)
from ccfallback.server.bill import Bill
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_credentials import LOGIN_TOKEN, is_login_key
from ccfallback.server.context import Context
from ccfallback.server.health import LONGEST_MODEL
from ccfallback.server.hints import Hints
from ccfallback.state.sections import Section
from ccfallback.wire.headers import bare_credential

AUXILIARY: Final = "auxiliary"
"""The class of requests that share a session's id, but not its prompt."""

LONG_TOOLS: Final = 4096
"""Bytes of definitions that are not only those of a provider's own tools."""


def find_part(hints: Hints, body: Body) -> str:
    """The part of a session that has a prompt of its own; empty for the conversation itself.

    Where the client does not say what a request is, its tools do: Claude Code's titles have none,
    and its web searches only those that a provider runs.
    """
    if hints.request_class:
        return AUXILIARY if hints.request_class == AUXILIARY else ""
    # The tools of a program are long, and are not decoded for this.
    if len(body.member("tools")) >= LONG_TOOLS:
        return ""
    return "" if body.get("tools") and not only_server_tools(body) else "without tools"


CAUSES: Final = {
    Cause.PAUSE: "its cache is cold after a pause of {age:.0f} s",
    Cause.COMPACTED: "the conversation was compacted, so no cache holds it",
    Cause.WARM: "the cache of {to} is warm",
    Cause.UNAVAILABLE: "it is not available ({why})",
}
"""Why a session leaves a fallback, in words."""

GONE: Final = "not in the configuration"
"""Why a provider is not available if nothing else says it."""


class RequestSession:
    """The session of one request."""

    def __init__(
        self,
        sessions: Sessions,
        breakers: Breakers,
        context: Context,
        hints: Hints,
        body: Body,
        bill: Bill,
    ) -> None:
        self._sessions = sessions
        self._bill = bill
        self._breakers = breakers
        self._context = context
        self._size = len(body.raw)
        self._compacted = hints.compacted
        conversation = hints.conversation or hash_conversation(body)
        part = find_part(hints, body)
        # Each model has a cache of its own.
        self._key = f"{conversation} {body.model[:LONGEST_MODEL]} {part}".rstrip()

    def is_away(self, first: Provider) -> bool:
        """Whether a fallback has served the session last, and not the provider that is first."""
        session = self._find()
        return session is not None and session.provider not in (first.name, PRIMARY_NAME)

    def decide(self, available: Sequence[str], unavailable: Mapping[str, str]) -> Decision | None:
        """Decide whether the session stays where it is; log what was decided."""
        session, now = self._find(), self._breakers.clock()
        if session is None:
            return None
        decision = decide(
            session,
            available,
            now,
            size=self._size,
            compacted=self._compacted,
            ttl=self._context.config.failback.cache_ttl,
            unavailable=unavailable,
        )
        match decision:
            case Stay():
                self._log_stay(decision)
            case Return():
                self._log_return(decision)
                if decision.cause is Cause.WARM:
                    self._sessions.put(self._key, replace(session, returned=now))
        return decision

    def remember(self, provider: Provider, usage: Usage | None) -> None:
        """Remember that the provider serves the session."""
        before, now = self._find(), self._breakers.clock()
        tokens = (usage and usage.prompt_tokens) or 0
        session = (before or Session("", {})).after(
            provider.name, now, size=self._size, tokens=tokens, compacted=self._compacted
        )
        self._sessions.put(self._key, session)
        # A session that has always been at the primary has nothing to lose by a restart.
        if {provider.name, before.provider if before else PRIMARY_NAME} != {PRIMARY_NAME}:
            self._breakers.put(SAVED, self._key, session)

    def _find(self) -> Session | None:
        own = self._sessions.get(self._key)
        if own is not None and not self._breakers.has(SAVED):
            return own
        # Another server may have served it since.
        shared = self._breakers.entry(SAVED, self._key)
        if own is None or shared is None:
            return own or shared
        return max(own, shared, key=lambda session: session.at)

    def _log_stay(self, decision: Stay) -> None:
        tokens, first = decision.tokens, decision.first
        cost = self._bill.rereading(tokens, name_in_label(first))
        reading = f"; {first} would read {tokens} tokens anew" if tokens else ""
        reading += f", about ${cost:.2f}" if cost else ""
        self._breakers.recorder.log(
            events.FailbackStay(
                provider=decision.provider,
                first=first,
                age=round(decision.age, 3),
                tokens=tokens or None,
                cost=cost,
            ),
            f"the session stays with {decision.provider}: its cache is warm, "
            f"{decision.age:.0f} s old{reading}",
            self._context.id,
        )

    def _log_return(self, decision: Return) -> None:
        why = CAUSES[decision.cause].format(
            age=decision.age, to=decision.provider, why=decision.why or GONE
        )
        self._breakers.recorder.log(
            events.FailbackReturn(
                provider=decision.provider,
                left=decision.left,
                reason=str(decision.cause),
                why=decision.why or UNSET,
                age=round(decision.age, 3),
            ),
            f"the session leaves {decision.left} for {decision.provider}: {why}",
            self._context.id,
        )


def keeps_caches(config: Config, context: Context, hints: Hints) -> bool:
    """Whether the session of a request stays where its cache is.

    With the login of a plan, reading a prompt anew costs no money. A client that names no session
    may not use caches at all, so its sessions are only kept with `mode = "cache"`.
    """
    mode = config.failback.mode
    if mode != "auto":
        return mode == "cache"
    if not hints.conversation:
        return False
    if config.primary.has_credential:
        return not is_login_key(config.primary.key)
    shown = context.first.get(b"authorization", b"")
    return not bare_credential(shown).startswith(LOGIN_TOKEN)


def _parse(raw: Any) -> Session:
    served = {str(name): float(at) / 1000 for name, at in dict(raw["served"]).items()}
    returned = raw.get("returned")
    session = Session(
        str(raw["provider"]),
        served,
        int(raw.get("size", 0)),
        int(raw.get("tokens", 0)),
        str(raw.get("compacted", "")).encode("latin-1", "replace"),
        None if returned is None else float(returned) / 1000,
    )
    if session.provider not in served:
        raise ValueError("the last provider is not among those that served it")
    return session


def _encode(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = {
        "provider": session.provider,
        "served": {name: round(at * 1000) for name, at in session.served.items()},
        "size": session.size,
        "tokens": session.tokens,
    }
    if session.compacted:
        found["compacted"] = session.compacted.decode("latin-1")
    if session.returned is not None:
        found["returned"] = round(session.returned * 1000)
    return found


SAVED: Final = Section("sessions", _parse, _encode, 500)
"""The sessions that a fallback has served, in the state. Times are Unix milliseconds there."""
