"""No command and no file repeats a credential of AWS, whatever a platform quotes of it."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_bedrock import BEDROCK, exception
from tests.cli.conftest import Run as Command
from tests.conftest import RunningProxy

SECRET, SESSION = "wJalrXUtnCANARYbPxRfiCYEXAMPLEKEY", "FwoGCANARYsession/token+with=signs"
ASK: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hello"}],
}

Start = Callable[..., ScriptedUpstream]
Run = Callable[[str], RunningProxy]


def ask(proxy: RunningProxy, **more: Any) -> httpx.Response:
    url = f"{proxy.url}/v1/messages"
    headers = {"x-api-key": "sk-ant-client", "user-agent": "claude-cli/2.1.332"}
    return httpx.post(url, json={**ASK, **more}, headers=headers, trust_env=False, timeout=30)


def quotes(as_stream: bool) -> Script:
    """An upstream that repeats all that it got to know of the credential."""

    async def script(request: Received, connection: Connection) -> None:
        shown = request.header("authorization") or ""
        token = request.header("x-amz-security-token") or ""
        said = f"The credential {shown} {token} is wrong."
        if shown.startswith("Bearer bedrock-api-key-"):
            url = base64.b64decode(shown.removeprefix("Bearer bedrock-api-key-")).decode()
            signature = url.partition("&X-Amz-Sec")[2]
            said = f"X-Amz-Sec{signature} or X-Amz-Sec{unquote(signature)}. {said}"
        if as_stream:
            frame = exception("validationException", said)
            headers = {"content-type": BEDROCK.stream_type, "connection": "close"}
            await connection.head(200, headers)
            await connection.write(frame)
            raise scripted.Hangup
        error = BEDROCK.error(403, "InvalidSignatureException", said, {})
        await error(request, connection)

    return script


@pytest.mark.parametrize("as_stream", [False, True])
@pytest.mark.parametrize("sign", ["sigv4", "bearer"])
def test_no_part_of_an_aws_credential_is_repeated(
    upstream: Start,
    running: Run,
    ccf: Command,
    monkeypatch: pytest.MonkeyPatch,
    sign: str,
    as_stream: bool,
) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", SESSION),
    ):
        monkeypatch.setenv(name, value)
    primary, cloud = upstream(scripted.error(529, "overloaded_error")), upstream(quotes(as_stream))
    proxy = running(
        f'[log]\nlevel = "debug"\n[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "cloud"\nformat = "bedrock"\nbase_url = "{cloud.url}"\n'
        f'auth = "aws"\naws = {{ region = "eu-central-1", sign = "{sign}" }}\n'
    )
    answer = ask(proxy, stream=as_stream)
    assert answer.status_code == 502
    (first, *_) = cloud.received
    shown = first.header("authorization") or ""
    assert shown
    secrets = {SECRET, SESSION, shown, shown.removeprefix("Bearer ")}
    if sign == "sigv4":
        secrets.add(shown.rpartition("Signature=")[2])
        assert first.header("x-amz-security-token") == SESSION
    else:
        url = base64.b64decode(shown.removeprefix("Bearer bedrock-api-key-")).decode()
        secrets |= {url, unquote(url), url.partition("X-Amz-Signature=")[2][:64]}
    screens = [
        ccf(*command.split())
        for command in (
            "explain",
            "explain --json",
            "status --json",
            "providers show cloud --json",
            "providers list --json",
            "breaker status --json",
            "doctor --json",
            "logs tail --format json",
            "config show",
        )
    ]
    texts = [answer.text, *(each.out + each.err for each in screens)]
    proxy.stop()
    texts += [path.read_text() for path in (proxy.paths.log, proxy.paths.state)]
    assert "request.debug_curl" in texts[-2]
    assert "***" in str([each["data"].get("error") for each in proxy.events("provider.failure")])
    for text in texts:
        assert [secret for secret in secrets if secret in text] == []
        assert "CANARY" not in text
