from dataclasses import replace as replace_evidence

import pytest
from msgspec.structs import replace

from ccfallback.cli.doctor.diagnosis import (
    ASKED_FOR,
    Evidence,
    Trouble,
    models_for,
    remedy,
    trouble,
)
from ccfallback.config.model import KeySource, Provider
from ccfallback.messages.errors import read_error
from ccfallback.policy.outcome import CLOCK_IS, Fault, Outcome, classify

PLAIN = Provider(name="spare", base_url="https://user:pw@api.example.com/v1?key=in-the-query")
OPENAI = replace(PLAIN, format="openai", auth_header="Authorization")
MODEL = "claude-sonnet-5-5"


LOGIN = Provider(name="p", base_url="https://a.test", auth="aws")


def refused(status: int, body: str, provider: Provider = PLAIN) -> Evidence:
    raw = body.encode()
    return Evidence(provider, MODEL, classify(status, {}, read_error(raw), now=0.0), raw)


def ended(fault: Fault, reason: str = "", *, sent: bool = True) -> Evidence:
    return Evidence(PLAIN, MODEL, Outcome(fault, reason), sent=sent)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (ended(Fault.NONE), Trouble.NONE),
        (refused(404, "404 page not found"), Trouble.WRONG_PATH),
        (refused(405, "Method Not Allowed"), Trouble.WRONG_PATH),
        (refused(404, '{"detail":"Not Found"}', OPENAI), Trouble.WRONG_PATH),
        (
            refused(404, '{"error":{"message":"Invalid URL (POST /v1/messages)"}}'),
            Trouble.WRONG_PATH,
        ),
        (
            refused(
                404,
                '{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}',
            ),
            Trouble.UNKNOWN_MODEL,
        ),
        (
            refused(404, '{"error":{"code":"model_not_found","message":"no"}}', OPENAI),
            Trouble.UNKNOWN_MODEL,
        ),
        (
            refused(400, '{"error":{"message":"claude-x is not a valid model ID"}}', OPENAI),
            Trouble.UNKNOWN_MODEL,
        ),
        (
            refused(404, '{"error":{"message":"model \'claude-x\' not found, try pulling it"}}'),
            Trouble.UNKNOWN_MODEL,
        ),
        (
            refused(400, '{"error":{"message":"messages: field required"}}', PLAIN),
            Trouble.WRONG_FORMAT,
        ),
        (
            refused(400, '{"type":"error","error":{"message":"system: no such role"}}', OPENAI),
            Trouble.WRONG_FORMAT,
        ),
        (
            refused(400, '{"type":"error","error":{"message":"tools: too many"}}'),
            Trouble.REFUSED,
        ),
        # A test asks for few tokens only, and a client for more.
        (
            refused(400, '{"type":"error","error":{"message":"max_tokens: too small"}}'),
            Trouble.NONE,
        ),
        (ended(Fault.MODEL_FAILED, "200 failed_stop_reason"), Trouble.MODEL_FAILED),
        (refused(401, '{"error":{"message":"invalid api key"}}'), Trouble.KEY_REFUSED),
        (refused(403, "forbidden"), Trouble.KEY_REFUSED),
        (refused(403, "forbidden", LOGIN), Trouble.LOGIN_REFUSED),
        (refused(401, "expired", replace(LOGIN, key=KeySource(env="K"))), Trouble.KEY_REFUSED),
        (
            Evidence(
                LOGIN,
                MODEL,
                Outcome(Fault.ACCOUNT, f"403 permission_error; {CLOCK_IS} 9 min behind", 403),
            ),
            Trouble.CLOCK,
        ),
        (refused(403, '{"error":{"message":"your credit balance is 0"}}'), Trouble.CREDIT),
        (refused(402, "payment required"), Trouble.CREDIT),
        (refused(429, "slow down"), Trouble.LIMIT),
        (refused(529, "overloaded"), Trouble.OVERLOADED),
        (refused(500, "oops"), Trouble.BROKEN),
        (refused(308, ""), Trouble.REDIRECT),
        (ended(Fault.TRANSPORT, "TLS error: WRONG_VERSION_NUMBER"), Trouble.TLS),
        (
            ended(Fault.TRANSPORT, "TLS certificate refused: certificate has expired"),
            Trouble.CERTIFICATE,
        ),
        (ended(Fault.TRANSPORT, "TLS certificate refused: Hostname mismatch"), Trouble.CERTIFICATE),
        (
            ended(
                Fault.TRANSPORT,
                "TLS certificate refused: self-signed certificate in certificate chain",
            ),
            Trouble.UNKNOWN_AUTHORITY,
        ),
        (
            ended(
                Fault.TRANSPORT, "TLS certificate refused: unable to get local issuer certificate"
            ),
            Trouble.UNKNOWN_AUTHORITY,
        ),
        (ended(Fault.OWN_MACHINE, "the outgoing proxy can't be reached"), Trouble.OWN_MACHINE),
        (ended(Fault.TRANSPORT, "connection refused"), Trouble.UNREACHABLE),
        (ended(Fault.UNREACHABLE, "name not resolved"), Trouble.UNREACHABLE),
        (ended(Fault.CONNECT_TIMEOUT, "connect timeout"), Trouble.UNREACHABLE),
        (ended(Fault.TIMEOUT, "first_byte timeout"), Trouble.SLOW),
        (ended(Fault.ACCOUNT, "no key: it is not set", sent=False), Trouble.NO_KEY),
        (ended(Fault.ACCOUNT, "its address is this proxy itself", sent=False), Trouble.LOOP),
        (ended(Fault.REQUEST, "not to be said", sent=False), Trouble.REFUSED),
        (refused(200, "<!DOCTYPE html><html>"), Trouble.WEB_PAGE),
        (refused(200, 'data: {"object":"chat.completion.chunk"}'), Trouble.WRONG_FORMAT),
        (refused(200, 'data: {"type":"message_start"}', OPENAI), Trouble.WRONG_FORMAT),
        (refused(200, 'data: {"type":"message_start"}'), Trouble.BROKEN),
    ],
)
def test_what_is_wrong(evidence: Evidence, expected: Trouble) -> None:
    assert trouble(evidence) is expected
    assert bool(remedy(evidence)) is (expected is not Trouble.NONE)


@pytest.mark.parametrize("provider", [PLAIN, OPENAI])
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_every_fault_has_a_remedy_without_secrets(fault: Fault, provider: Provider) -> None:
    said = remedy(Evidence(provider, MODEL, Outcome(fault, "so it is")))
    assert said
    assert "{" not in said
    assert "in-the-query" not in said
    assert "pw@" not in said


@pytest.mark.parametrize(("provider", "other"), [(PLAIN, "openai"), (OPENAI, "anthropic")])
def test_the_wrong_format_names_the_right_one(provider: Provider, other: str) -> None:
    body = '{"choices":[]}' if other == "openai" else '{"type":"message"}'
    command = f"`ccfallback providers set spare --format {other}`"
    assert command in remedy(refused(200, body, provider))


def test_a_redirect_names_where_to_without_its_query() -> None:
    evidence = replace_evidence(
        refused(301, ""), location="https://new.example/v1/messages?token=x"
    )
    assert "--base-url https://new.example/v1/messages`" in remedy(evidence)


def test_a_redirect_to_a_malformed_url_has_a_remedy() -> None:
    assert "an invalid URL" in remedy(replace_evidence(refused(301, ""), location="https://["))


def unknown_model(provider: Provider, *known: str) -> str:
    return remedy(replace_evidence(refused(404, "model: it", provider), known_models=known))


def test_the_suggested_model_is_the_nearest_that_the_provider_has() -> None:
    said = unknown_model(PLAIN, "glm-5", "anthropic/claude-sonnet-5.5", "anthropic/claude-opus-5")
    assert "--map 'claude-sonnet-5-5=anthropic/claude-sonnet-5.5'" in said


def test_without_a_near_one_the_first_is_suggested() -> None:
    assert "--map 'claude-sonnet-5-5=qwen'" in unknown_model(PLAIN, "qwen", "glm")


def test_a_known_host_has_a_suggestion_by_itself() -> None:
    provider = replace(PLAIN, base_url="https://api.deepseek.com/anthropic")
    assert "--map 'claude-sonnet-5-5=deepseek-" in unknown_model(provider)


def test_with_nothing_to_go_by_the_person_fills_in_the_model() -> None:
    assert "=MODEL'" in unknown_model(PLAIN)


@pytest.mark.parametrize(
    ("mapping", "asked", "expected"),
    [
        ({}, [], ("claude-sonnet-5-5",)),
        ({}, ["a", "b", "a"], ("a", "b")),
        ({"*": "m"}, [], ("claude-sonnet-5-5",)),
        ({"*haiku*": "s", "*": "m"}, [], ("claude-sonnet-5-5", "claude-haiku-4-5")),
        ({"claude-opus-9-*": "m"}, [], ("claude-opus-9-latest",)),
        ({"gpt-x": "m"}, [], ("gpt-x",)),
        ({"claude-opus-5-5": "m"}, ["other"], ("other",)),
    ],
)
def test_each_model_that_a_mapping_leads_to_is_tested_once(
    mapping: dict[str, str], asked: list[str], expected: tuple[str, ...]
) -> None:
    provider = replace(PLAIN, model_mapping=mapping)
    assert models_for(provider, asked, ASKED_FOR) == expected


def test_the_remedy_for_a_missing_key_fits_its_place() -> None:
    for key, words in (
        (KeySource(env="K"), "export K where the server is started"),
        (KeySource(command=("pass", "secret-name")), "run pass yourself and check"),
        (KeySource(), "--api-key-env VARIABLE"),
    ):
        provider = replace(PLAIN, key=key)
        outcome = Outcome(Fault.ACCOUNT, "no key: there is none")
        said = remedy(Evidence(provider, MODEL, outcome, sent=False))
        assert words in said
        assert "secret-name" not in said
    outcome = Outcome(Fault.ACCOUNT, "403 permission_error", 403)
    assert "the AWS login may use the model" in remedy(Evidence(LOGIN, MODEL, outcome))
