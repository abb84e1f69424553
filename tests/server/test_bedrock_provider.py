"""A fallback on Bedrock, over real sockets: strict, in frames, and as good as the primary."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anthropic
import httpx
import msgspec
import pytest

from ccfallback.config.model import Aws, Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream, in_a_moment, one_chunk
from ccfallback.simulator.scripted_bedrock import (
    BEDROCK,
    NO_ACCESS,
    ON_DEMAND,
    TOO_LONG,
    error,
    exception,
    frames_of,
    model_of,
    served,
    wants_stream,
)
from ccfallback.simulator.scripted_format import CONTENT, Part
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import AwsKeys, Credential
from ccfallback.wire.event_stream import MEDIA_TYPE
from tests.conftest import RunningProxy
from tests.rectify.drafts import BETAS, captured

ASK: Final[dict[str, Any]] = {
    "model": "claude-opus-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "hi"}],
}
CLIENT: Final = {
    "user-agent": "claude-cli/2.1.330 (external, cli)",
    "x-app": "cli",
    "x-api-key": "the-clients-own",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": ",".join(BETAS),
}
OVERLOADED: Final = scripted.error(529, "overloaded_error")

Start = Callable[..., tuple[RunningProxy, ScriptedUpstream]]


@pytest.fixture
def both(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    """A failing primary and a fallback on Bedrock."""

    def start(
        *scripts: Script,
        primary: Script = OVERLOADED,
        account: str = "",
        more: str = "",
        last: str = "",
    ) -> tuple[RunningProxy, ScriptedUpstream]:
        first, second = upstream(primary), upstream(*scripts)
        key = 'auth = "aws"' if account else 'api_key = "bedrock-api-key-x"'
        account = account or 'region = "eu-central-1"'
        proxy = running(
            f'[primary]\nbase_url = "{first.url}"\n[[providers]]\nname = "bedrock"\n'
            f'base_url = "{second.url}"\nformat = "bedrock"\n{key}\n'
            f"aws = {{ {account} }}\n{more}\n{last}"
        )
        return proxy, second

    return start


def ask(proxy: RunningProxy, body: dict[str, Any], path: str = "/v1/messages") -> httpx.Response:
    return httpx.post(f"{proxy.url}{path}", json=body, headers=CLIENT, trust_env=False, timeout=30)


def content_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    raw = to_message(response.content) if is_stream else response.content
    blocks: list[dict[str, Any]] = msgspec.json.decode(raw)["content"]
    return blocks


@pytest.mark.parametrize("stream", [True, False])
def test_what_the_client_sends_is_answered_at_once(both: Start, stream: bool) -> None:
    proxy, bedrock = both(BEDROCK.reply(CONTENT))
    requests = [
        msgspec.json.decode(each.body.raw) for each in captured() if "max_tokens" in each.body
    ]
    assert requests
    for request in requests:
        response = ask(proxy, {**request, "stream": stream})
        assert content_of(response) == list(CONTENT)
        assert response.headers["x-ccfallback-provider"] == "bedrock"
    # One attempt for each: nothing was refused and repaired.
    assert len(bedrock.received) == len(requests)
    for received in bedrock.received:
        assert wants_stream(received) is stream
        assert model_of(received).startswith("eu.anthropic.claude-")
        assert received.header("authorization") == "Bearer bedrock-api-key-x"
        assert "the-clients-own" not in str(received)
        assert "stream" not in received.json


def test_a_refusal_that_no_table_knows_is_learned(both: Start) -> None:
    async def script(request: Received, connection: scripted.Connection) -> None:
        refuses = error(400, "ValidationException", "temperature: Extra inputs are not permitted")
        is_refused = "temperature" in request.json
        await (refuses if is_refused else BEDROCK.works())(request, connection)

    proxy, bedrock = both(script)
    for attempts in (2, 1):
        before = len(bedrock.received)
        assert ask(proxy, {**ASK, "temperature": 0.5}).status_code == 200
        assert len(bedrock.received) - before == attempts


@pytest.mark.parametrize(
    "script",
    [
        error(403, "AccessDeniedException", NO_ACCESS),
        error(400, "ValidationException", ON_DEMAND.format(model="m")),
        served(lambda model: model.startswith("us."), BEDROCK.works()),
        error(403, "ExpiredTokenException", "The security token has expired"),
        error(400, "ServiceQuotaExceededException", "Too many tokens per day"),
    ],
    ids=["no access", "on demand", "another region", "expired", "quota"],
)
def test_the_next_provider_answers_what_bedrock_cannot(
    both: Start, upstream: Callable[..., ScriptedUpstream], script: Script
) -> None:
    well = upstream(scripted.reply("well"))
    last = f'[[providers]]\nname = "well"\nbase_url = "{well.url}"\napi_key = "k"\n'
    proxy, bedrock = both(script, last=last)
    response = ask(proxy, ASK)
    assert response.headers["x-ccfallback-provider"] == "well"
    assert content_of(response) == [{"type": "text", "text": "well"}]
    assert len(bedrock.received) == 1


def test_a_request_for_a_server_tool_alone_is_not_sent_there(
    both: Start, upstream: Callable[..., ScriptedUpstream]
) -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    well = upstream(scripted.reply("found"))
    last = f'[[providers]]\nname = "well"\nbase_url = "{well.url}"\napi_key = "k"\n'
    proxy, bedrock = both(BEDROCK.works(), last=last)
    assert content_of(ask(proxy, {**ASK, "tools": [search]})) == [{"type": "text", "text": "found"}]
    assert well.received[0].json["tools"] == [search]
    well.script(OVERLOADED)
    found = content_of(ask(proxy, {**ASK, "tools": [search]}))
    assert found[-1]["content"]["error_code"] == "unavailable"
    assert bedrock.received == []
    # Its breaker is not concerned: other requests go there.
    assert ask(proxy, ASK).headers["x-ccfallback-provider"] == "bedrock"


@pytest.mark.parametrize("how", ["aws.profile", "AWS_PROFILE", "default"])
def test_the_region_of_the_profile_chooses_the_geography_of_the_model(
    both: Start, home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    folder = home / ".aws"
    folder.mkdir()
    profile = "default" if how == "default" else "work"
    section = profile if profile == "default" else f"profile {profile}"
    (folder / "config").write_text(f"[{section}]\nregion = eu-west-1\n")
    (folder / "credentials").write_text(
        f"[{profile}]\naws_access_key_id = AKID\naws_secret_access_key = not-a-secret\n"
    )
    if how == "AWS_PROFILE":
        monkeypatch.setenv("AWS_PROFILE", "work")
    account = 'profile = "work", sign = "sigv4"' if how == "aws.profile" else 'sign = "sigv4"'
    proxy, bedrock = both(BEDROCK.reply(CONTENT), account=account)
    assert content_of(ask(proxy, ASK)) == list(CONTENT)
    assert bedrock.received[0].target.startswith("/model/eu.anthropic.claude-opus-5-5/")
    # The signature is for the same region.
    assert "/eu-west-1/" in (bedrock.received[0].header("authorization") or "")


def test_without_a_region_the_request_goes_on_and_the_log_says_what_is_missing(
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    primary, well = upstream(OVERLOADED), upstream(scripted.reply("well"))
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "bedrock"\n'
        'format = "bedrock"\napi_key = "k"\n'
        f'[[providers]]\nname = "well"\nbase_url = "{well.url}"\napi_key = "k"\n'
    )
    assert content_of(ask(proxy, ASK)) == [{"type": "text", "text": "well"}]
    failures = [each["data"] for each in proxy.events("provider.failure")]
    reason = next(each["reason"] for each in failures if each["provider"] == "bedrock")
    assert reason == "it needs aws.region: set providers.bedrock.aws.region"


def test_a_prompt_that_is_too_long_makes_the_client_compact(both: Start) -> None:
    proxy, _ = both(
        error(400, "ValidationException", TOO_LONG), primary=error(401, "UnrecognizedClient")
    )
    response = ask(proxy, ASK)
    assert response.status_code == 400
    assert "prompt is too long" in response.json()["error"]["message"]


@pytest.mark.parametrize("part", [Part.NOTHING, Part.OPENING])
def test_an_exception_before_the_content_goes_on_to_the_next_provider(
    both: Start, upstream: Callable[..., ScriptedUpstream], part: Part
) -> None:
    well = upstream(scripted.reply("well"))
    last = f'[[providers]]\nname = "well"\nbase_url = "{well.url}"\napi_key = "k"\n'
    throttled = one_chunk(exception("throttlingException", "Too many tokens"))
    proxy, _ = both(BEDROCK.up_to(part, throttled), last=last)
    response = ask(proxy, {**ASK, "stream": True})
    assert content_of(response) == [{"type": "text", "text": "well"}]
    failure = next(
        each for each in proxy.events("provider.failure") if each["data"]["provider"] == "bedrock"
    )
    assert failure["data"]["fault"] == "throttled"


def test_an_exception_amid_a_text_drops_the_connection(both: Start) -> None:
    broken = in_a_moment(one_chunk(exception("modelStreamErrorException", "failed")))
    proxy, _ = both(BEDROCK.up_to(Part.TEXT, broken))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(proxy, {**ASK, "stream": True})
    proxy.wait_for("request.error")
    assert proxy.state["bedrock"]["consecutiveFailures"] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_signed_request_is_taken_without_a_key(
    upstream: Callable[..., ScriptedUpstream], stream: bool
) -> None:
    bedrock = upstream(BEDROCK.works())
    provider = Provider(
        name="b", base_url=bedrock.url, format="bedrock", aws=Aws(region="eu-central-1")
    )
    body = Body.parse(msgspec.json.encode({**ASK, "stream": stream}))
    credential = Credential(aws=AwsKeys("AKIDEXAMPLE", "not-a-real-secret"))
    wire = FORMATS["bedrock"]
    request = wire.prepare(body, [], provider, credential, via="1.1 us")
    for made, status in ((request, 403), (wire.sign(request, provider, credential, 0.0), 200)):
        response = httpx.post(
            made.url,
            content=made.body,
            headers=[(name.decode(), value.decode()) for name, value in made.headers],
            trust_env=False,
        )
        assert response.status_code == status, response.text


@pytest.mark.parametrize(
    ("sign", "form"),
    [
        ("bearer", r"Bearer bedrock-api-key-[A-Za-z0-9+/=]+"),
        ("sigv4", r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-central-1/bedrock/aws4_.*"),
    ],
)
def test_an_aws_account_is_enough(
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
    monkeypatch: pytest.MonkeyPatch,
    sign: str,
    form: str,
) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    primary, bedrock = upstream(OVERLOADED), upstream(BEDROCK.works())
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "bedrock"\n'
        f'base_url = "{bedrock.url}"\nformat = "bedrock"\nauth = "aws"\n'
        f'aws = {{ region = "eu-central-1", sign = "{sign}" }}\n'
    )
    assert content_of(ask(proxy, {**ASK, "stream": True})) == list(CONTENT)
    assert re.fullmatch(form, bedrock.received[0].header("authorization") or "")
    assert "not-a-real-secret" not in str(proxy.records) + str(proxy.state)


def test_tokens_are_counted_by_bedrock_or_estimated(both: Start) -> None:
    def counted(request: Received) -> bool:
        return request.target.endswith("/count-tokens")

    async def script(request: Received, connection: scripted.Connection) -> None:
        refuses = BEDROCK.refusal(request)
        good = scripted.answer(200, b'{"inputTokens":42}') if counted(request) else BEDROCK.works()
        await (refuses or good)(request, connection)

    proxy, bedrock = both(script)
    response = ask(proxy, ASK, "/v1/messages/count_tokens")
    assert response.json() == {"input_tokens": 42}
    assert model_of(bedrock.received[-1]) == "anthropic.claude-opus-5-5"
    for request in captured():
        body = msgspec.json.decode(request.body.raw)
        body.pop("max_tokens", None)
        assert ask(proxy, body, "/v1/messages/count_tokens").json() == {"input_tokens": 42}


def test_a_model_that_is_not_counted_is_estimated(both: Start) -> None:
    text = "The provided model doesn't support counting tokens."
    proxy, bedrock = both(error(400, "ValidationException", text))
    response = ask(proxy, ASK, "/v1/messages/count_tokens")
    assert response.headers["x-ccfallback-estimate"] == "1"
    assert len(bedrock.received) == 1


def test_the_cache_counts_of_the_last_event_reach_the_client(both: Start) -> None:
    frames = frames_of(CONTENT, cached=321)
    proxy, _ = both(scripted.stream(frames, headers={"content-type": MEDIA_TYPE}))
    response = ask(proxy, {**ASK, "stream": True})
    assert '"cache_read_input_tokens":321' in response.text
    assert "amazon-bedrock" not in response.text
    assert response.headers["content-type"].startswith("text/event-stream")


# --- The judge: the official client ---


@pytest.fixture
def official() -> Iterator[Callable[[str], Any]]:
    """Makes the official client of Bedrock, pointed at an address."""
    pytest.importorskip("boto3", reason="anthropic[bedrock] is not installed")
    made: list[Any] = []

    def make(url: str) -> Any:
        client = anthropic.AnthropicBedrock(
            aws_region="eu-central-1", base_url=url, max_retries=0, api_key="bedrock-api-key-x"
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_client_sends_the_same_request(
    both: Start, official: Callable[[str], Any], stream: bool
) -> None:
    proxy, bedrock = both(BEDROCK.reply(CONTENT))
    ask(proxy, {**ASK, "stream": stream})
    client = official(bedrock.url)
    answer = client.beta.messages.create(
        **{**ASK, "model": "eu.anthropic.claude-opus-5-5"},
        betas=["effort-2025-11-24"],
        stream=stream,
    )
    if stream:
        for _ in answer:
            pass
    ours, theirs = bedrock.received
    # A colon is the one character that the client does not encode; this id has none.
    assert ours.target == theirs.target
    for name in ("accept", "content-type", "authorization"):
        assert ours.header(name) == theirs.header(name)
    body, expected = ours.json, theirs.json
    # Newer clients send a newer version; both are accepted.
    assert body.pop("anthropic_version") == "bedrock-2023-05-31"
    assert expected.pop("anthropic_version")
    assert body == {**expected, "anthropic_beta": body["anthropic_beta"]}
    assert set(expected["anthropic_beta"]) <= set(body["anthropic_beta"])


def test_the_official_client_reads_the_scripted_stream(
    upstream: Callable[..., ScriptedUpstream], official: Callable[[str], Any]
) -> None:
    bedrock = upstream(BEDROCK.reply(CONTENT))
    with official(bedrock.url).messages.stream(
        **{**ASK, "model": "eu.anthropic.claude-opus-5-5"}
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == [block["type"] for block in CONTENT]
    assert message.stop_reason == "tool_use"


def test_the_official_client_reads_the_scripted_errors(
    upstream: Callable[..., ScriptedUpstream], official: Callable[[str], Any]
) -> None:
    bedrock = upstream(error(429, "ThrottlingException", "Too many requests"))
    with pytest.raises(anthropic.RateLimitError):
        official(bedrock.url).messages.create(**{**ASK, "model": "m"})
