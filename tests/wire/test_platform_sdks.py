"""The official clients of the platforms are the judges: the same message makes the same request.

Their packages are optional: without one, its tests are skipped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import anthropic
import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Google, Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.provider_body import adapt_body
from tests.server.strict_vertex import StrictVertex

KEY: Final = "the-key"
ANSWER: Final = [{"type": "text", "text": "Hello."}]
TURNS: Final = [{"role": "user", "content": "Hi"}]
COMPARED: Final = ("anthropic-beta", "anthropic-workspace-id")
INVOKE: Final = "/v1/projects/p/locations/global/workspaces/w/invoke"


@dataclass(frozen=True)
class Case:
    """A platform: how its official client and how a provider of ours is made for a URL."""

    client: str
    make: Callable[[Any, str], Any]
    provider: Provider


def bearer(platform: str, path: str, **more: Any) -> Provider:
    return Provider(
        name="p",
        base_url=path,
        auth_header="Authorization",
        platform_name=platform,
        **more,
    )


CASES: Final = {
    "vertex": Case(
        "AnthropicVertex",
        lambda client, url: client(
            region="global", project_id="p", access_token=KEY, base_url=f"{url}/v1"
        ),
        bearer("vertex", "", format="vertex", google=Google(project="p")),
    ),
    "mantle": Case(
        "AnthropicBedrockMantle",
        lambda client, url: client(
            api_key=KEY, aws_region="us-east-1", base_url=f"{url}/anthropic"
        ),
        bearer("mantle", "/anthropic"),
    ),
    "claude-platform-aws": Case(
        "AnthropicAWS",
        lambda client, url: client(
            api_key=KEY, aws_region="us-east-1", workspace_id="wrkspc_1", base_url=url
        ),
        Provider(
            name="p",
            base_url="",
            platform_name="claude-platform-aws",
            headers={"anthropic-workspace-id": "wrkspc_1"},
        ),
    ),
    "claude-google-cloud": Case(
        "AnthropicGoogleCloud",
        lambda client, url: client(
            project="p", workspace_id="w", token_provider=lambda: KEY, base_url=url + INVOKE
        ),
        bearer("claude-google-cloud", INVOKE),
    ),
    "foundry": Case(
        "AnthropicFoundry",
        lambda client, url: client(api_key=KEY, base_url=f"{url}/anthropic"),
        Provider(name="p", base_url="/anthropic", platform_name="foundry"),
    ),
}


def official(case: Case, url: str) -> Any:
    """The official client for a URL."""
    client = getattr(anthropic, case.client, None)
    if client is None:
        pytest.skip(f"this version of anthropic has no {case.client}")
    try:
        return case.make(client, url)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{case.client} needs another package: {error}")


def what_matters(
    path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[str, Any, Mapping[str, str | None]]:
    """The parts of a request that a platform acts upon.

    Each takes a key in both headers, and every version of the API that this client has.
    """
    members = msgspec.json.decode(body)
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    versions = "anthropic-version" in headers, members.pop("anthropic_version", None) is not None
    if members.get("stream") is False:
        del members["stream"]
    kept = {name: headers.get(name) for name in COMPARED}
    # A version in the body is read instead of one in a header.
    has_version = "body" if versions[1] else "header" if versions[0] else None
    return path, members, {**kept, "key": key, "version": has_version}


@pytest.mark.parametrize("method", ["create", "stream", "count_tokens"])
@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-haiku-4-5-20251001"])
@pytest.mark.parametrize("platform", CASES)
def test_the_same_message_is_the_same_request(
    platform: str, model: str, method: str, upstream: Callable[..., ScriptedUpstream]
) -> None:
    case = CASES[platform]
    count = scripted.answer(200, b'{"input_tokens":3}')
    server = upstream(count if method == "count_tokens" else scripted.reply(ANSWER))
    provider = replace(case.provider, base_url=server.url + case.provider.base_url)
    client = official(case, server.url)
    asked: dict[str, Any] = {"model": provider.model_for(model), "messages": TURNS}
    if method == "count_tokens":
        # The endpoint knows models without dates.
        asked["model"] = asked["model"].partition("@")[0]
        client.messages.count_tokens(**asked)
    elif method == "create":
        client.messages.create(**asked, max_tokens=9)
    else:
        with client.messages.stream(**asked, max_tokens=9) as stream:
            assert stream.get_final_text() == "Hello."
    got = server.received[-1]
    headers = {name.lower(): value for name, value in got.headers}
    theirs = what_matters(got.target.partition("?")[0], got.body, headers)

    ours: dict[str, Any] = {"model": model, "messages": TURNS}
    ours |= {} if method == "count_tokens" else {"max_tokens": 9}
    ours |= {"stream": True} if method == "stream" else {}
    wire = FORMATS[provider.format]
    if method == "count_tokens":
        assert wire.counting is not None
        wire = wire.counting
    draft = adapt_body(provider, Body.parse(msgspec.json.encode(ours)), Privacy())
    request = wire.prepare(draft, [], provider, Credential(KEY), via="1.1 us")
    sent = {name.decode(): value.decode() for name, value in request.headers}
    assert what_matters(urlsplit(request.url).path, request.body, sent) == theirs


def test_the_official_client_reads_the_strict_vertex() -> None:
    strict = StrictVertex(lambda _: scripted.reply(ANSWER), project="p", tokens={KEY})
    with ScriptedUpstream(route=strict) as server:
        client = official(CASES["vertex"], server.url)
        if "anthropic-version" in {name.lower() for name in client.default_headers}:
            client = client.with_options(default_headers={"anthropic-version": anthropic.omit})
        asked: dict[str, Any] = {"model": "claude-opus-5-5", "messages": TURNS}
        assert client.messages.create(**asked, max_tokens=9).content[0].text == "Hello."
        with client.messages.stream(**asked, max_tokens=9) as stream:
            assert stream.get_final_text() == "Hello."
        assert client.messages.count_tokens(**asked).input_tokens == 42
        strict.tokens.clear()
        with pytest.raises(anthropic.AuthenticationError, match="OAuth 2 access token"):
            client.messages.create(**asked, max_tokens=9)
    assert len(strict.refused) == 1
