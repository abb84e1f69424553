"""Each error of the proxy itself has a code that `ccfallback help` explains."""

from collections.abc import Callable

import httpx
import pytest

from ccfallback.error_codes import ErrorCode
from ccfallback.simulator import scripted
from tests.conftest import Chain, RunningProxy

BODY = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
REFUSED = '[primary]\nbase_url = "http://127.0.0.1:1"\n'
TOKENS = '[[tokens]]\ntoken = "a-token-for-tests"\n'
MESSAGES = ("POST", "/v1/messages")


@pytest.mark.parametrize(
    ("config", "request_line", "headers", "content", "status", "code"),
    [
        ("", MESSAGES, {"host": "evil.example"}, b"{}", 403, ErrorCode.FOREIGN_HOST),
        ("", MESSAGES, {"origin": "http://evil.example"}, b"{}", 403, ErrorCode.FOREIGN_PAGE),
        ("", MESSAGES, {}, b"[]", 400, ErrorCode.UNREADABLE_BODY),
        (
            "[server]\nmax_body_bytes = 1024\n",
            MESSAGES,
            {},
            b" " * 2000,
            413,
            ErrorCode.BODY_TOO_LARGE,
        ),
        (REFUSED, ("GET", "/v1/files"), {}, b"", 502, ErrorCode.NO_FALLBACK),
        ("", ("GET", "/nothing"), {}, b"", 404, ErrorCode.UNKNOWN_PATH),
        ("", ("GET", "/v1/messages"), {}, b"", 405, ErrorCode.UNKNOWN_PATH),
        ("", MESSAGES, {"x-long": "x" * 200_000}, b"{}", 431, ErrorCode.MALFORMED_HTTP),
    ],
)
def test_a_refusal_has_its_code(
    running: Callable[[str], RunningProxy],
    config: str,
    request_line: tuple[str, str],
    headers: dict[str, str],
    content: bytes,
    status: int,
    code: ErrorCode,
) -> None:
    proxy = running(config)
    method, path = request_line
    with httpx.Client(trust_env=False) as client:
        answer = client.request(method, proxy.url + path, headers=headers, content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"] == code.mark(error["message"].removesuffix(f" [{code}]"))
    assert "\n" not in error["message"]


def test_a_missing_token_has_its_code_in_the_log_only(
    running: Callable[[str], RunningProxy],
) -> None:
    proxy = running(TOKENS)
    answer = httpx.post(f"{proxy.url}/v1/messages", json=BODY, trust_env=False)
    expected = {"type": "authentication_error", "message": "Invalid or missing x-ccf-api-key"}
    assert (answer.status_code, answer.json()["error"]) == (401, expected)
    assert proxy.wait_for("auth.failure")["message"].endswith(" [CCF-E101]")


def test_the_final_error_of_a_chain_has_its_code(chain: Callable[..., Chain]) -> None:
    overloaded = scripted.error(529, "overloaded_error", "Overloaded")
    started = chain(overloaded, overloaded)
    answer = httpx.post(f"{started.url}/v1/messages", json=BODY, trust_env=False)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (502, "CCF-E107")
    assert error["message"].endswith(" [CCF-E107]")
    assert "CCF" not in str(started.proxy.events("request.error")[-1]["message"])


def test_an_error_of_the_primary_is_forwarded_without_a_code(chain: Callable[..., Chain]) -> None:
    started = chain(scripted.error(529, "overloaded_error", "Overloaded"))
    answer = httpx.post(f"{started.url}/v1/messages", json=BODY, trust_env=False)
    assert answer.status_code == 529
    assert "CCF" not in answer.text


def test_no_fallback_and_no_primary_has_its_code(running: Callable[[str], RunningProxy]) -> None:
    proxy = running(REFUSED)
    answer = httpx.post(f"{proxy.url}/v1/messages", json=BODY, trust_env=False)
    error = answer.json()["error"]
    assert error["message"].startswith("Primary API failed and no fallbacks configured: ")
    assert (answer.status_code, error["code"]) == (502, "CCF-E106")


def test_texts_that_clients_know_stay_as_they_are() -> None:
    assert ErrorCode.INVALID_TOKEN.mark("Invalid or missing x-ccf-api-key") == (
        "Invalid or missing x-ccf-api-key"
    )
    assert ErrorCode.PROMPT_TOO_LONG.mark("prompt is too long: 2 tokens > 1 maximum") == (
        "prompt is too long: 2 tokens > 1 maximum"
    )
    assert ErrorCode.ALL_FAILED.mark("All failed") == "All failed [CCF-E107]"
