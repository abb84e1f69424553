"""What Claude Code says about a request in its headers."""

from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import CLASSES
from ccfallback.server.hints import NO_HINTS, Hints, read_hints
from ccfallback.simulator import scripted
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}

SESSION = "0a1b2c3d-0000-4000-8000-00000000aaaa"


def hints(**headers: str) -> Hints:
    names = {f"x-claude-code-{name.replace('_', '-')}": value for name, value in headers.items()}
    return read_hints({name.encode(): value.encode() for name, value in names.items()})


def test_without_headers_nothing_is_known() -> None:
    assert hints() is NO_HINTS
    assert hints(agent_type="Explore") is NO_HINTS


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_read(name: str) -> None:
    found = hints(request_class=name, agent_type="my-plugin:reviewer")
    assert (found.request_class, found.agent) == (name, "my-plugin:reviewer")


@pytest.mark.parametrize("name", ["", "other", "MAIN", "main ", "main, subagent"])
def test_an_unknown_class_does_not_count(name: str) -> None:
    assert hints(session_id=SESSION, request_class=name).request_class == ""


@pytest.mark.parametrize("agent", ["", "a" * 65, "a b", "\x1b[31m", "x\ny"])
def test_a_malformed_type_of_an_agent_does_not_count(agent: str) -> None:
    assert hints(request_class="subagent", agent_type=agent).agent == ""


def test_a_session_is_a_short_hash_and_each_agent_has_a_conversation() -> None:
    person, agent, other = (
        hints(session_id=SESSION, agent_id=agent_id) for agent_id in ("", "a1", "a2")
    )
    assert len(person.session) == 12
    assert person.session not in SESSION
    assert person.session == agent.session == other.session == person.conversation
    assert len({person.conversation, agent.conversation, other.conversation}) == 3
    assert hints(session_id="x" * 129).session == ""
    assert hints(session_id=SESSION[:-1] + "b").session != person.session


NAMES = (
    b"x-claude-code-session-id",
    b"x-claude-code-agent-id",
    b"x-claude-code-request-class",
    b"x-claude-code-agent-type",
    b"x-claude-code-context-compacted",
)


@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=300)))
def test_any_bytes_are_hints_that_a_log_can_hold(headers: dict[bytes, bytes]) -> None:
    found = read_hints(headers)
    assert len(found.session) in (0, 12)
    assert found.request_class in ("", *CLASSES)
    assert len(found.agent) <= 64
    assert found.agent.isprintable()
    assert len(found.compacted) <= 128


HEADERS = {
    "x-claude-code-session-id": SESSION,
    "x-claude-code-agent-id": "agent-7",
    "x-claude-code-parent-agent-id": "agent-1",
    "x-claude-code-request-class": "subagent",
    "x-claude-code-agent-type": "Explore",
    "x-claude-code-compaction": "auto",
    "x-claude-code-context-compacted": "1",
    "x-claude-code-prev-tool-durations": "12",
    "x-claude-code-prompt-id": "prompt-1",
}


def post(running: Chain, **headers: str) -> httpx.Response:
    return httpx.post(f"{running.url}/v1/messages", json=ASK, headers=headers)


def test_the_log_has_them_and_the_primary_gets_them(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("hello"), scripted.reply("hi"))
    post(running, **HEADERS)
    end = running.proxy.wait_for("request.complete")["data"]
    (start,) = (each["data"] for each in running.proxy.events("request.start"))
    assert (start["class"], start["agent"]) == ("subagent", "Explore")
    assert start["session"] == hints(session_id=SESSION).session
    assert end["class"] == "subagent"
    for name, value in HEADERS.items():
        assert running.primary.received[0].header(name) == value


def test_without_headers_the_log_says_that_they_are_unknown(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("hello"))
    post(running)
    end = running.proxy.wait_for("request.complete")["data"]
    (start,) = (each["data"] for each in running.proxy.events("request.start"))
    assert [start[key] for key in ("session", "class", "agent")] == [None, None, None]
    assert "class" not in end


def test_a_fallback_gets_none_of_them(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("hi"))
    post(running, **HEADERS)
    names = [name.lower() for name, _ in running.fallback.received[0].headers]
    assert not [name for name in names if "claude-code" in name]


def test_a_route_sends_a_class_to_its_own_providers(chain: Callable[..., Chain]) -> None:
    more = '[routes]\nsubagent = ["fallback2", "anthropic-primary"]\n'
    second = [scripted.reply("2"), scripted.error(529, "overloaded_error")]
    running = chain(scripted.reply("p"), scripted.reply("1"), second, more=more)
    answers = [post(running, **HEADERS), post(running, **HEADERS), post(running)]
    names = [answer.headers["x-ccfallback-provider"] for answer in answers]
    assert names == ["fallback2", "anthropic-primary", "anthropic-primary"]
    running.proxy.wait_for("request.complete", 3)
    routed, _, chained = (each["data"] for each in running.proxy.events("request.start"))
    assert routed["chain"] == ["fallback2", "anthropic-primary"]
    assert routed["leftOut"] == {"fallback1": "route"}
    assert chained["chain"] == ["anthropic-primary", "fallback1", "fallback2"]
