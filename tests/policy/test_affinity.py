"""Whether a session stays with the fallback that has its prompt in a warm cache."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.policy.affinity import (
    LONGEST_BEGINNING,
    MOST_PROVIDERS,
    RETURN_PAUSE,
    Cause,
    Decision,
    Return,
    Session,
    Sessions,
    Stay,
    decide,
    hash_conversation,
)

TTL = 300.0
NOW = 1_000_000.0
BOTH = ("primary", "fallback")


def moved(
    *, age: float = 60.0, primary: float | None = 1000.0, returned: float | None = None
) -> Session:
    """A session whose last answer came from the fallback, `age` seconds ago."""
    served = {} if primary is None else {"primary": NOW - primary}
    return Session("fallback", {**served, "fallback": NOW - age}, 1000, 148_000, b"one", returned)


def ask(
    session: Session,
    available: Sequence[str] = BOTH,
    *,
    size: int = 1000,
    compacted: bytes = b"one",
    ttl: float = TTL,
) -> Decision | None:
    return decide(session, available, NOW, size=size, compacted=compacted, ttl=ttl)


def test_it_stays_while_the_cache_is_warm() -> None:
    assert ask(moved()) == Stay("fallback", "primary", 60.0, 148_000)
    assert ask(moved(primary=None)) == Stay("fallback", "primary", 60.0, 148_000)


@pytest.mark.parametrize(
    ("session", "size", "compacted", "cause"),
    [
        (moved(age=TTL), 1000, b"one", Cause.PAUSE),
        (moved(age=-5.0), 1000, b"one", Cause.PAUSE),
        (moved(primary=0.0), 1000, b"one", Cause.WARM),
        (moved(), 500, b"one", Cause.COMPACTED),
        (moved(), 1000, b"two", Cause.COMPACTED),
        (moved(primary=TTL - 1), 1000, b"one", Cause.WARM),
        (moved(primary=200, returned=NOW - RETURN_PAUSE), 1000, b"one", Cause.WARM),
    ],
)
def test_it_goes_back_when_that_costs_nothing(
    session: Session, size: int, compacted: bytes, cause: Cause
) -> None:
    decision = ask(session, size=size, compacted=compacted)
    assert isinstance(decision, Return)
    assert (decision.provider, decision.left, decision.cause) == ("primary", "fallback", cause)


@pytest.mark.parametrize(
    ("session", "size", "compacted"),
    [
        (moved(age=TTL - 1), 1000, b"one"),
        (moved(), 501, b"one"),
        (moved(), 1000, b""),
        (moved(primary=TTL), 1000, b"one"),
        (moved(primary=200, returned=NOW - 10), 1000, b"one"),
    ],
)
def test_it_stays_as_long_as_no_reason_holds(session: Session, size: int, compacted: bytes) -> None:
    assert isinstance(ask(session, size=size, compacted=compacted), Stay)


def test_a_fallback_that_is_not_available_is_left() -> None:
    decision = ask(moved(), ("primary", "other"))
    assert decision == Return("primary", "fallback", Cause.UNAVAILABLE, 60.0)


def test_a_fallback_that_is_left_says_why() -> None:
    why = {"fallback": "spend-cap", "primary": "cooling-down"}
    left = decide(moved(), ("other",), NOW, size=1, compacted=b"", ttl=TTL, unavailable=why)
    assert left == Return("other", "fallback", Cause.UNAVAILABLE, 60.0, "spend-cap")
    paused = decide(moved(age=400), BOTH, NOW, size=1, compacted=b"", ttl=TTL, unavailable=why)
    assert isinstance(paused, Return)
    assert (paused.cause, paused.why) == (Cause.PAUSE, "")


def test_nothing_is_decided_where_it_would_go_anyway() -> None:
    assert ask(moved(), ("fallback", "other")) is None
    assert ask(moved(), ()) is None


def test_it_stays_with_the_last_of_several_fallbacks() -> None:
    assert ask(moved(), ("other", "fallback")) == Stay("fallback", "other", 60.0, 148_000)


MOMENTS = st.floats(NOW - 10_000, NOW + 100)
NAMES = ("primary", "fallback", "other")


@given(
    served=st.dictionaries(st.sampled_from(NAMES), MOMENTS, min_size=1),
    returned=st.none() | MOMENTS,
    available=st.lists(st.sampled_from(NAMES), unique=True),
    size=st.integers(0, 5000),
    compacted=st.sampled_from([b"", b"one", b"two"]),
    ttl=st.floats(0, 5000),
)
def test_it_never_stays_later_than_the_rule_says(
    served: dict[str, float],
    returned: float | None,
    available: list[str],
    size: int,
    compacted: bytes,
    ttl: float,
) -> None:
    session = Session(next(iter(served)), served, 1000, 0, b"one", returned)
    decision = ask(session, available, size=size, compacted=compacted, ttl=ttl)
    if decision is None:
        assert available[:1] in ([], [session.provider])
        return
    assert decision.provider in available
    if isinstance(decision, Stay):
        assert decision.provider == session.provider
        assert 0 <= decision.age < ttl
        assert size > 500
        assert compacted != b"two"
        primary = served.get(available[0])
        is_warm = primary is not None and 0 <= NOW - primary < ttl
        # The provider that is first is warm only if it has taken the session back a moment ago.
        assert not is_warm or (returned is not None and 0 <= NOW - returned < RETURN_PAUSE)
    else:
        assert decision.provider == available[0]
        assert decision.left == session.provider


class Flapping:
    """One session of a client, and a primary that is up or down when it is tried."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.moves: list[float] = []

    def ask(self, now: float, *, primary_is_up: bool) -> None:
        """Send a request; while the primary is down, no breaker has noticed."""
        decision = None
        if self.session is not None:
            decision = decide(self.session, BOTH, now, size=1000, compacted=b"", ttl=TTL)
        order = ["fallback"] if isinstance(decision, Stay) else list(BOTH)
        session = self.session or Session("", {})
        if isinstance(decision, Return) and decision.cause is Cause.WARM:
            session = msgspec.structs.replace(session, returned=now)
        answered = next(name for name in order if name == "fallback" or primary_is_up)
        if self.session is not None and answered != self.session.provider:
            self.moves.append(now)
        self.session = session.after(answered, now, size=1000, tokens=0, compacted=b"")


@given(
    st.lists(st.tuples(st.floats(0.1, TTL - 1), st.booleans()), min_size=1, max_size=300),
)
def test_a_flapping_primary_moves_a_session_twice_an_hour_at_most(
    requests: list[tuple[float, bool]],
) -> None:
    client, now = Flapping(), 0.0
    for pause, is_up in requests:
        now += pause
        client.ask(now, primary_is_up=is_up)
    # The first failure does not count as a return, so it comes on top.
    assert len(client.moves) <= 2 * (now // RETURN_PAUSE + 1) + 1
    returns = client.moves[1::2]
    for earlier, later in pairwise(returns):
        assert later - earlier >= RETURN_PAUSE


def test_a_session_remembers_few_providers() -> None:
    session = Session("", {})
    for number in range(20):
        session = session.after(f"p{number}", NOW + number, size=1, tokens=0, compacted=b"")
    assert len(session.served) == MOST_PROVIDERS
    assert (session.provider, session.at) == ("p19", NOW + 19)


def test_the_session_that_was_silent_for_longest_is_forgotten() -> None:
    sessions = Sessions(most=2)
    for key in ("a", "b", "a", "c"):
        sessions.put(key, moved())
    assert [key for key in "abc" if sessions.get(key) is not None] == ["a", "c"]


@given(st.lists(st.integers(0, 100)))
def test_memory_is_bounded(keys: list[int]) -> None:
    sessions = Sessions(most=5)
    for key in keys:
        sessions.put(str(key), moved())
        assert len(sessions) <= 5
        assert sessions.get(str(key)) is not None


def body(system: object, *messages: object) -> Body:
    value = {"model": "claude-x", "system": system, "messages": list(messages)}
    return Body.parse(msgspec.json.encode(value))


def text(words: str, **more: object) -> dict[str, object]:
    return {"type": "text", "text": words, **more}


MARK = {"cache_control": {"type": "ephemeral"}}
HELLO = {"role": "user", "content": "hello"}
REST = ({"role": "assistant", "content": "hi"}, {"role": "user", "content": [text("more")]})


def test_all_requests_of_a_conversation_have_one_hash() -> None:
    first = hash_conversation(body([text("be kind", **MARK)], HELLO))
    marked = {"role": "user", "content": [text("hello", **MARK)]}
    billing = text("x-anthropic-billing-header: cc_version=1;")
    assert first == hash_conversation(body("be kind", marked, *REST))
    assert first == hash_conversation(body([billing, text("be kind")], HELLO, *REST))
    assert first == hash_conversation(body("be kind", {"role": "system"}, HELLO))
    others = [
        body("be rude", HELLO),
        body("be kind", {"role": "user", "content": "hey"}),
        body("be kindhello", {"role": "user", "content": ""}),
        body("be kind"),
    ]
    assert len({first, *map(hash_conversation, others)}) == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"messages":[]}',
        b'{"messages":5}',
        b'{"messages":[{"role":"user"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"system":[[]],"messages":["x", {"role":"user","content":[1]}]}',
        b'{"messages":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
def test_any_body_has_a_hash(raw: bytes) -> None:
    assert len(hash_conversation(Body.parse(raw))) == 12


def test_a_session_keeps_what_an_answer_does_not_tell() -> None:
    later = moved().after("primary", NOW, size=2000, tokens=0, compacted=b"")
    assert (later.tokens, later.compacted) == (148_000, b"one")
    newer = moved().after("primary", NOW, size=2000, tokens=5, compacted=b"two")
    assert (newer.tokens, newer.compacted) == (5, b"two")


def test_a_conversation_whose_first_turn_is_too_long_has_its_own_hash() -> None:
    def long_turn(mark: str) -> dict[str, object]:
        return {"role": "user", "content": mark + "x" * LONGEST_BEGINNING}

    first, second = body("s", long_turn("a")), body("s", long_turn("b"))
    assert hash_conversation(first) != hash_conversation(second)
