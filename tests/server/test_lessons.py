"""What is learned from a refusal, by which provider, and for how long, over real sockets."""

from collections.abc import Callable
from itertools import count

import httpx
from msgspec import structs
from msgspec.structs import replace

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received
from ccfallback.state.file import StateFile
from ccfallback.state.store import States
from tests.conftest import Chain
from tests.server.plain_api import strict
from tests.server.test_plain_form import answered, learned_of
from tests.server.test_repairs import OVERLOADED, ask, first_turn


def test_a_lesson_ends_a_day_after_it_was_learned_though_it_is_used(
    chain: Callable[..., Chain],
) -> None:
    running = chain(OVERLOADED, strict(scripted.reply("served")))
    ask(running)
    until = [lesson["until"] for lesson in learned_of(running)]
    ask(running)
    assert [lesson["until"] for lesson in learned_of(running)] == until
    needed = len(running.fallback.received) - 1
    age(running, hours=23)
    ask(running)
    assert len(running.fallback.received) == needed + 2
    age(running, hours=1)
    ask(running)
    assert len(running.fallback.received) == 2 * needed + 2
    ask(running)
    assert len(running.fallback.received) == 2 * needed + 3


def age(chain: Chain, hours: int) -> None:
    """Let all lessons be older than they are."""

    def older(states: States) -> States:
        state = states["fallback1"]
        learned = tuple(replace(each, until=each.until - hours * 3600) for each in state.learned)
        return {**states, "fallback1": structs.replace(state, learned=learned)}

    StateFile(chain.proxy.paths.state).update(older)


def test_a_lesson_does_not_apply_to_another_server_of_the_same_name(
    chain: Callable[..., Chain],
) -> None:
    running = chain(OVERLOADED, strict(scripted.reply("served")))
    ask(running)
    assert learned_of(running)
    config = running.proxy.paths.config
    config.write_text(config.read_text().replace("fallback-key-1", "fallback-key-of-another"))
    ask(running)
    first = next(
        each
        for each in running.fallback.received
        if each.header("x-api-key") == "fallback-key-of-another"
    )
    assert "context_management" in first.json


def test_nothing_is_learned_from_another_refusal(chain: Callable[..., Chain]) -> None:
    ids = count()

    async def unique(request: Received, connection: scripted.Connection) -> None:
        number = "ab"[next(ids) % 2]
        words = f"context_management: Extra inputs are not permitted (request id: {number}x)"
        await scripted.error(400, "invalid_request_error", words)(request, connection)

    running = chain(OVERLOADED, unique, scripted.reply("third"))
    ask(running, context_management={"edits": []})
    assert learned_of(running) == []
    assert running.proxy.events("rectifier.applied") == []


def test_a_count_of_tokens_neither_teaches_nor_uses_lessons(chain: Callable[..., Chain]) -> None:
    async def counts(request: Received, connection: scripted.Connection) -> None:
        if b"cache_control" in request.body and "count_tokens" in request.target:
            words = "cache_control: Extra inputs are not permitted"
            await scripted.error(400, "invalid_request_error", words)(request, connection)
        else:
            await scripted.reply("served")(request, connection)

    running = chain(OVERLOADED, counts)
    body = {key: value for key, value in first_turn().items() if key != "stream"}
    httpx.post(f"{running.url}/v1/messages/count_tokens", json=body, timeout=30)
    assert learned_of(running) == []
    assert answered(ask(running))
    assert b"cache_control" in running.fallback.received[-1].body


def test_a_lesson_is_saved_before_its_answer_ends(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), strict(scripted.reply("served")))
    for model in ("claude-a", "claude-b", "claude-c", "claude-d", "claude-e"):
        # From the fourth on the primary is skipped, so that no failure has to be saved.
        assert answered(ask(running, model=model))
        assert model in {lesson["model"] for lesson in learned_of(running)}
    assert len(running.primary.received) == 3
