"""Test requests to providers over real sockets; `test_diagnosis.py` tests what they mean."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ccfallback.addresses import Address
from ccfallback.cli.doctor.diagnosis import Trouble
from ccfallback.cli.doctor.probe import Probe, probe
from ccfallback.config.model import Config, KeySource, Provider, Token
from ccfallback.redact import Secret
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI

KEY = "sk-abcdefghijklmnop"
MODEL = "claude-sonnet-5-5"

Start = Callable[..., ScriptedUpstream]


def fallback(upstream: ScriptedUpstream, **more: object) -> Provider:
    provider = Provider(
        name="spare", base_url=upstream.url, key=KeySource(literal=Secret(KEY)), retry=0
    )
    return replace(provider, **more)


def ask(provider: Provider, model: str = MODEL, **environ: str) -> Probe:
    config = Config(providers=(provider,))
    (found,) = probe(config, [(provider, model)], environ=environ)
    return found


def test_a_test_requests_one_token_as_the_server_would(upstream: Start) -> None:
    server = upstream(scripted.reply("Hi"))
    found = ask(fallback(server, model_mapping={"*sonnet*": "big"}))
    assert (found.ok, found.tested, found.status, found.mapped_to) == (True, True, 200, "big")
    assert found.hint == ""
    (request,) = server.received
    assert request.header("x-api-key") == KEY
    assert request.json["model"] == "big"
    assert request.json["max_tokens"] == 1


@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_a_refusal_of_a_limit_that_is_too_low_proves_key_and_model(
    upstream: Start, format: str
) -> None:
    other = OPENAI if format == "openai" else scripted

    async def refusing(request: Received, connection: scripted.Connection) -> None:
        words = "max_tokens must be at least 1024"
        refusal = scripted.error(400, "invalid_request_error", words)
        is_enough = request.json["max_tokens"] >= 1024
        await (other.reply("Hi") if is_enough else refusal)(request, connection)

    header = "Authorization" if format == "openai" else "x-api-key"
    found = ask(fallback(upstream(refusing), format=format, auth_header=header))
    assert (found.ok, found.status, found.hint, found.trouble) == (True, 200, "", Trouble.NONE)


def test_a_refusal_of_every_limit_proves_key_and_model_too(upstream: Start) -> None:
    words = "Could not finish the message because max_tokens or model output limit was reached"
    found = ask(fallback(upstream(scripted.error(400, "invalid_request_error", words))))
    assert (found.ok, found.status, found.hint, found.trouble) == (True, 400, "", Trouble.NONE)
    assert "max_tokens" in found.message
    wrong = ask(fallback(upstream(scripted.error(401, "authentication_error", words))))
    assert not wrong.ok


def test_the_openai_format_is_translated(upstream: Start) -> None:
    server = upstream(OPENAI.reply("Hi"))
    assert ask(fallback(server, format="openai", auth_header="Authorization")).ok
    (request,) = server.received
    assert request.target == "/v1/chat/completions"
    assert request.header("authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("wire_format", "script"),
    [("anthropic", OPENAI.reply("Hi")), ("openai", scripted.reply("Hi"))],
)
def test_an_answer_in_the_other_format_is_recognized(
    upstream: Start, wire_format: str, script: Script
) -> None:
    found = ask(fallback(upstream(script), format=wire_format))
    assert (found.ok, found.trouble) == (False, Trouble.WRONG_FORMAT)


def test_a_key_that_the_upstream_quotes_is_not_shown(upstream: Start) -> None:
    quoting = scripted.error(401, "authentication_error", "no such key: secretsecret")
    provider = fallback(upstream(quoting), key=KeySource(literal=Secret("secretsecret")))
    found = ask(provider)
    assert found.trouble is Trouble.KEY_REFUSED
    assert "authentication_error" in found.message
    assert "secretsecret" not in repr(found)


def test_a_model_to_map_to_is_chosen_from_the_providers_list(upstream: Start) -> None:
    server = upstream(
        scripted.error(404, "not_found_error", f"model: {MODEL}"),
        scripted.answer(200, b'{"data":[{"id":"tiny"},{"id":"vendor/claude-sonnet-5.5"}]}'),
    )
    found = ask(fallback(server))
    assert found.trouble is Trouble.UNKNOWN_MODEL
    assert "vendor/claude-sonnet-5.5" in found.hint
    assert [request.target for request in server.received] == ["/v1/messages", "/v1/models"]
    assert server.received[1].header("x-api-key") == KEY


@pytest.mark.parametrize(
    "listing",
    [
        scripted.html(),
        scripted.reset,
        scripted.answer(200, b"[" * 100_000),
        scripted.answer(200, b'{"data":[1,{"id":7}]}'),
        scripted.answer(500, b"no"),
    ],
)
def test_a_provider_without_a_list_still_gets_a_suggestion(
    upstream: Start, listing: Script
) -> None:
    server = upstream(scripted.error(404, "not_found_error", "model: x"), listing)
    assert "=MODEL" in ask(fallback(server)).hint


def test_its_own_retries_are_made(upstream: Start) -> None:
    server = upstream(scripted.error(503, "api_error"), scripted.reply("Hi"))
    assert ask(fallback(server, retry=1)).ok
    assert len(server.received) == 2


def primary(upstream: ScriptedUpstream) -> Config:
    return Config(primary=replace(Config().primary, base_url=upstream.url))


def test_the_primary_is_not_tested_without_a_login(upstream: Start) -> None:
    server = upstream(scripted.reply("Hi"))
    config = primary(server)
    (found,) = probe(config, [(config.primary, MODEL)], environ={})
    assert (found.ok, found.tested, found.status, found.seconds) == (True, False, None, None)
    assert "login" in found.message
    assert not server.received


@pytest.mark.parametrize(
    ("variable", "header", "value"),
    [
        ("ANTHROPIC_API_KEY", "x-api-key", "mine"),
        ("ANTHROPIC_AUTH_TOKEN", "authorization", "Bearer mine"),
    ],
)
def test_the_primary_is_tested_with_the_environments_key(
    upstream: Start, variable: str, header: str, value: str
) -> None:
    server = upstream(scripted.reply("Hi"))
    config = primary(server)
    (found,) = probe(config, [(config.primary, MODEL)], environ={variable: "mine"})
    assert (found.ok, found.tested) == (True, True)
    assert server.received[0].header(header) == value


def test_an_access_token_is_not_a_login(upstream: Start) -> None:
    server = upstream(scripted.reply("Hi"))
    config = replace(primary(server), tokens=(Token(token=Secret("ours")),))
    (found,) = probe(config, [(config.primary, MODEL)], environ={"ANTHROPIC_AUTH_TOKEN": "ours"})
    assert not found.tested
    assert not server.received


def test_the_proxy_itself_is_not_tested(upstream: Start) -> None:
    server = upstream(scripted.reply("Hi"))
    provider = fallback(server)
    (found,) = probe(
        Config(providers=(provider,)),
        [(provider, MODEL)],
        environ={},
        listener=Address("loopback", server.port),
    )
    assert (found.ok, found.trouble) == (False, Trouble.LOOP)
    assert not server.received


def test_results_are_in_the_order_of_the_questions_and_reported_at_once(upstream: Start) -> None:
    refusing = fallback(upstream(scripted.error(401, "authentication_error")), name="one")
    good = fallback(upstream(scripted.reply("Hi")), name="two")
    questions = [(refusing, "a"), (good, "a"), (refusing, "b")]
    told: list[Probe] = []
    found = probe(Config(providers=(refusing, good)), questions, environ={}, on_result=told.append)
    assert [(each.provider, each.model) for each in found] == [
        ("one", "a"),
        ("two", "a"),
        ("one", "b"),
    ]
    assert sorted(map(repr, told)) == sorted(map(repr, found))


def test_a_reason_is_said_once(upstream: Start) -> None:
    # An answer in the wrong format: its stream has no event that ends it.
    found = ask(fallback(upstream(scripted.reply("Hi")), format="openai"))
    assert not found.ok
    assert found.message.count("without a stop reason") == 1
