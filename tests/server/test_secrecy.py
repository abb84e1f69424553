"""No secret is shown, logged or sent to another server.

Keys, tokens and content stay out of whatever a person might paste into a bug report; a redirect
takes no credential elsewhere; nothing that is configured can end a line on the wire.
"""

import socket
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from time import time
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.pretty import pretty_repr

from ccfallback.config.checks import Expected, header_map, http_url, key_text
from ccfallback.config.model import Config, KeySource, Network, Provider, Token
from ccfallback.credentials.fetch import Reply
from ccfallback.credentials.program import Output
from ccfallback.credentials.source import Machine, Resolved
from ccfallback.http1 import Origin, Request
from ccfallback.http1.request import RequestEncoder
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.printable import is_printable
from ccfallback.redact import Secret
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.upstream import UpstreamRequest
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Script, ScriptedUpstream
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import AwsKeys, Credential
from ccfallback.wire.format import WireRequest
from tests.conftest import Chain, RunningProxy

HIDDEN = "hidden-hidden-hidden"
RAW = HIDDEN.encode()
QUOTED = "quoted quoted quoted"
SAID = [{"role": "user", "content": f"{HIDDEN} {QUOTED}"}]
ASK = {"model": "claude-x", "max_tokens": 10, "messages": SAID}

PROVIDER = Provider(
    name="b",
    base_url=f"https://b.test/?key={HIDDEN}",
    key=KeySource(literal=Secret(HIDDEN), command=("pass", HIDDEN)),
    headers={"X-Auth": HIDDEN},
)
CONFIG = Config(
    providers=(PROVIDER,),
    network=Network(proxy=f"http://name:{HIDDEN}@proxy.test"),
    tokens=(Token(token=Secret(HIDDEN)),),
)
HEADERS = [(b"x-api-key", RAW)]
BODY = Body.parse(b'{"system":"%b"}' % RAW)
OUTCOME = Outcome(Fault.ACCOUNT, "401")


@pytest.mark.parametrize(
    "value",
    [
        CONFIG,
        PROVIDER,
        Context("id", CONFIG, ClientHeaders(HEADERS), frozenset({RAW})),
        UpstreamRequest(PROVIDER.base_url, HEADERS, RAW, 1.0),
        AttemptResult(PROVIDER, OUTCOME, 1.0, 401, headers=HEADERS, body=RAW),
        WireRequest(PROVIDER.base_url, HEADERS, RAW),
        Resolved(Credential(HIDDEN, headers={"x-auth": HIDDEN}), "a place"),
        Resolved(Credential(aws=AwsKeys("id", HIDDEN, HIDDEN)), "a place"),
        Machine({"KEY": HIDDEN}, partial(Reply, 200, RAW), time),
        Output(RAW, RAW, 0),
        Reply(200, RAW),
        RequestDraft(BODY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_repr_shows_a_secret(value: object) -> None:
    assert HIDDEN not in repr(value)
    # As asyncio shows the arguments of a callback that went wrong.
    assert HIDDEN not in f"{[value]!r} {value}"
    # As rich shows the variables of a traceback.
    assert HIDDEN not in pretty_repr(value, max_width=9999)


LEAKY = f"no key {HIDDEN}, no x-api-key: {HIDDEN}, nothing like {QUOTED}"


def test_no_page_and_no_record_shows_a_secret(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    first = upstream(scripted.error(401, "authentication_error", LEAKY))
    proxy = running(
        f'[primary]\nbase_url = "{first.url}/v1?key={HIDDEN}"\napi_key = "{HIDDEN}"\n'
        f'[primary.headers]\n"X-Auth-Token" = "{HIDDEN}"\n"X-Title" = "{HIDDEN}"\n'
        f'[[providers]]\nname = "b"\nbase_url = "{first.url}/?key={HIDDEN}"\n'
        f'auth_header = "X-Odd"\napi_key = "{HIDDEN}"\n'
        f'[[tokens]]\ntoken = "{HIDDEN}"\nnote = "laptop"\n'
    )
    headers = {"x-ccf-api-key": HIDDEN, "cookie": HIDDEN, "x-unheard-of": HIDDEN}
    with httpx.Client(base_url=proxy.url, headers=headers) as client:
        answer = client.post("/v1/messages", json=ASK)
        pages = [client.get(path) for path in ("/", "/health", "/metrics", "/v1/models", "/no")]
        refused = client.get("/metrics", headers={"x-ccf-api-key": f"not-{HIDDEN}"})
    assert (answer.status_code, refused.status_code) == (502, 401)
    for response in (answer, refused, *pages):
        assert HIDDEN not in response.text, response.url
        assert HIDDEN not in str(response.headers), response.url
    proxy.wait_for("request.error")
    assert len(proxy.events("request.debug_curl")) == 2
    assert HIDDEN not in str(proxy.records)
    proxy.stop()
    assert RAW not in proxy.paths.log.read_bytes()
    assert RAW not in proxy.paths.state.read_bytes()


def in_stream(event: bytes) -> Script:
    """A stream that says no more than this."""
    return scripted.stream([event])


def error_of(**members: object) -> bytes:
    return msgspec.json.encode({"type": "error", "error": members})


EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("some text")))
TALKATIVE = {
    "message": scripted.answer(200, msgspec.json.encode({"error": {"message": LEAKY}})),
    "bare": scripted.answer(200, msgspec.json.encode({"error": LEAKY})),
    "page": scripted.answer(200, f"<title>{LEAKY}</title>".encode(), "text/html"),
    "type": scripted.answer(500, error_of(type=LEAKY[:60])),
    "key as type": scripted.answer(500, error_of(type=HIDDEN)),
    "type inside 200": scripted.answer(200, error_of(type=HIDDEN)),
    "code": scripted.answer(429, error_of(type="rate_limit_error", code=HIDDEN)),
    "detail": scripted.answer(500, msgspec.json.encode({"detail": [{"msg": LEAKY}]})),
    "header": scripted.error(429, "rate_limit_error", headers={"retry-after": HIDDEN}),
    "redirect": scripted.answer(302, b"", headers={"location": f"/?key={HIDDEN}"}),
    "text as events": in_stream(LEAKY.encode()),
    "event": in_stream(b"event: error\ndata: " + error_of(type="x", message=LEAKY) + b"\n\n"),
    "event with a key": in_stream(b"event: error\ndata: " + error_of(type=HIDDEN) + b"\n\n"),
    "no event": in_stream(f"data: {LEAKY}\n\n".encode()),
    "broken head": scripted.answer(200, b"", headers={f"x {HIDDEN}": HIDDEN}),
    "encoding": scripted.answer(200, b"x", headers={"content-encoding": HIDDEN}),
    "media type": scripted.answer(200, b"x", HIDDEN),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("answer", TALKATIVE.values(), ids=TALKATIVE)
def test_what_an_upstream_quotes_is_not_repeated(
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
    answer: Script,
    stream: bool,
) -> None:
    talkative = upstream(answer)
    proxy = running(
        f'[primary]\nbase_url = "{talkative.url}/v1?key={HIDDEN}"\napi_key = "{HIDDEN}"\n'
        + "".join(
            f'[[providers]]\nname = "{wire}"\nbase_url = "{talkative.url}/v1?key={HIDDEN}"\n'
            f'api_key = "{HIDDEN}"\nformat = "{wire}"\n'
            for wire in FORMATS
        )
    )
    response = httpx.post(f"{proxy.url}/v1/messages", json={**ASK, "stream": stream})
    pages = [httpx.get(f"{proxy.url}/{page}").text for page in ("metrics", "health")]
    proxy.wait_for("request.error")
    proxy.stop()
    files = [path.read_text() for path in (proxy.paths.log, proxy.paths.state) if path.exists()]
    seen = f"{response.text} {response.headers} {pages} {proxy.records} {files}"
    assert "fallback_exhausted" in seen
    assert HIDDEN not in seen
    assert QUOTED not in seen


VALUE = "Zebra-4711/secret+value"
WORD = "wordoftheconversation"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "capitals": str.upper,
    "URL": lambda text: quote(text, safe=""),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "within base64": lambda text: b64encode(f"user:{text}".encode()).decode(),
    "repr": lambda text: repr(text.encode()),
    "spaced": " ".join,
}
CARRIERS: dict[str, dict[str, str]] = {
    "cookie": {"cookie": f"theme=dark; session={VALUE}; other=1"},
    "access": {"cf-access-client-secret": VALUE},
    "gateway": {"x-gateway-token": f"v1,{VALUE}"},
    "any name": {"x-team": f"{VALUE} extra"},
    "basic": {"authorization": f"Basic {b64encode(f'me:{VALUE}'.encode()).decode()}"},
    "query": {},
}


@pytest.mark.parametrize("headers", CARRIERS.values(), ids=CARRIERS)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_of_a_clients_secret_is_repeated(
    chain: Callable[..., Chain], headers: dict[str, str], spell: Callable[[str], str]
) -> None:
    said = f"bad credential {spell(VALUE)} here"
    running = chain(scripted.error(401, "authentication_error", said), scripted.error(500, "x"))
    query = {} if headers else {"code": VALUE}
    url = f"{running.url}/v1/messages"
    answer = httpx.post(url, json=ASK, headers=headers, params=query)
    failure = running.proxy.wait_for("provider.failure")
    assert failure["data"]["error"].startswith("bad credential")
    running.proxy.wait_for("request.error")
    seen = f"{answer.text} {running.proxy.records}".lower()
    assert "zebra-4711" not in seen
    assert spell(VALUE).lower() not in seen


@pytest.mark.parametrize("status", [500, 200])
def test_a_word_of_the_conversation_is_no_type_of_an_error(
    chain: Callable[..., Chain], status: int
) -> None:
    error = scripted.answer(status, error_of(type=WORD, message=f"{WORD.upper()} is bad"))
    running = chain(error, error)
    answer = httpx.post(
        f"{running.url}/v1/messages", json={**ASK, "messages": [{"content": f"a {WORD}"}]}
    )
    running.proxy.wait_for("request.error")
    running.proxy.stop()
    files = [path.read_text() for path in (running.proxy.paths.log, running.proxy.paths.state)]
    assert WORD not in f"{answer.text} {running.proxy.records} {files}".lower()


def test_what_a_client_sends_is_cut_in_the_log(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("ok"))
    httpx.post(f"{running.url}/v1/messages", json={**ASK, "model": "m" * 100_000})
    httpx.get(f"{running.url}/{'p' * 10_000}", headers={"host": "elsewhere.test"})
    running.proxy.wait_for("auth.failure")
    running.proxy.stop()
    assert max(map(len, running.proxy.paths.log.read_bytes().splitlines())) < 2000


def test_no_file_has_characters_that_a_terminal_would_obey(chain: Callable[..., Chain]) -> None:
    odd = "\x7f\x85\x9b\u2028\u202e\u200b\U000e0041\u200f"
    error = scripted.answer(500, error_of(type="api_error", message=f"a{odd}b"))
    running = chain(error, error)
    httpx.post(f"{running.url}/v1/messages", json={**ASK, "model": f"m{odd}"})
    running.proxy.wait_for("request.error")
    running.proxy.stop()
    for path in (running.proxy.paths.log, running.proxy.paths.state):
        text = path.read_text()
        assert all(is_printable(line) for line in text.splitlines())
        assert not set(text) & set(odd)
    assert running.proxy.events("provider.failure")[0]["data"]["error"] == "a b"


@pytest.mark.parametrize(
    ("place", "status", "text"),
    [
        # Before any attempt, and within one.
        ("ccfallback.server.messages.read_request", 500, "Internal error: RuntimeError"),
        ("ccfallback.server.failover_driver.adapt_body", 502, "internal error: RuntimeError"),
    ],
)
def test_an_internal_error_is_logged_with_its_place_and_without_its_text(
    chain: Callable[..., Chain],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: str,
    status: int,
    text: str,
) -> None:
    running = chain(scripted.reply("never"))

    def broken(*given: object) -> None:
        raise RuntimeError(f"{HIDDEN} from {given}")

    monkeypatch.setattr(place, broken)
    answer = httpx.post(f"{running.url}/v1/messages", json=ASK, headers={"x-api-key": HIDDEN})
    assert answer.status_code == status
    assert text in answer.json()["error"]["message"]
    said = running.proxy.wait_for("server.error")
    assert said["message"].startswith("internal error: RuntimeError at ")
    running.proxy.stop()
    out, err = capfd.readouterr()
    assert HIDDEN not in f"{running.proxy.records} {answer.text} {out} {err}"
    assert "Traceback" not in out + err


BROKEN = [
    f'[[providers]]\nname = "b"\nbase_url = "https://b.test"\napi_key = "{HIDDEN}\n',
    f'[[providers]]\nname = "b"\nbase_url = "https://b.test"\napi_key = {HIDDEN}\n',
    f'[[providers]]\nname = "b"\nbase_url = "https://b.test"\napi_key = "{HIDDEN}\\n"\n',
    f'[[providers]]\nname = "b"\nbase_url = "https://me:{HIDDEN}@b.test"\n',
    f'[[providers]]\nname = "b"\nbase_url = "https://b.test"\nheaders = {{ A = "{HIDDEN}\\r" }}\n',
    f'[network]\nproxy = "http://me:{HIDDEN}@p.test\\r\\nX: y"\n',
    f'tokens = ["{HIDDEN}"]\n',
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_configuration_is_reported_without_its_secrets(
    running: Callable[[str], RunningProxy], broken: str
) -> None:
    proxy = running("")
    proxy.paths.config.write_text(broken)
    assert httpx.get(f"{proxy.url}/health").status_code == 200
    said = proxy.wait_for("config.error")
    assert said["level"] == "error"
    assert HIDDEN not in str(proxy.records)


@pytest.mark.parametrize("url", ["https://me:pass-word@b.test", "https://pass-word@b.test/v1"])
def test_a_url_with_credentials_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(Expected, match="without a name or password in it") as refused:
        http_url(url)
    assert refused.value.found == "a value"
    assert "pass-word" not in refused.value.expected


MOVED = (301, 302, 303, 307, 308)


@pytest.mark.parametrize("status", MOVED)
def test_a_redirect_is_not_followed_and_leads_to_failover(
    chain: Callable[..., Chain], upstream: Callable[..., ScriptedUpstream], status: int
) -> None:
    elsewhere = upstream(scripted.reply("stolen"))
    moved = scripted.answer(status, b"", headers={"location": f"{elsewhere.url}/v1/messages"})
    running = chain(moved, moved, scripted.reply("here"))
    answer = httpx.post(f"{running.url}/v1/messages", json=ASK, headers={"x-api-key": HIDDEN})
    assert answer.json()["content"][0]["text"] == "here"
    assert answer.headers["x-ccfallback-attempts"] == "3"
    assert elsewhere.received == []
    assert len(running.primary.received) == len(running.fallback.received) == 1


@pytest.mark.parametrize("status", MOVED)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/api/hello"])
def test_a_redirect_of_a_passed_through_request_is_not_followed_either(
    chain: Callable[..., Chain], upstream: Callable[..., ScriptedUpstream], status: int, path: str
) -> None:
    elsewhere = upstream(scripted.reply("stolen"))
    running = chain(scripted.answer(status, b"", headers={"location": elsewhere.url}))
    answer = httpx.get(running.url + path, headers={"x-api-key": HIDDEN})
    assert answer.status_code == (200 if path == "/v1/models" else status)
    assert elsewhere.received == []
    assert len(running.primary.received) == 1


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x00", "\x0b", "\x1f", "\x7f"])
def test_nothing_configured_can_end_a_line(end: str) -> None:
    inside = f"a{end}x-injected: 1"
    for check, value in (
        (key_text, inside),
        (http_url, f"https://b.test/{inside}"),
        (http_url, f"https://b.test/{end}a"),
        (header_map, {"X-Title": inside}),
        (header_map, {"X-Title": f"a{end}"}),
        (header_map, {inside: "a"}),
        (header_map, {f"X-Title{end}": "a"}),
    ):
        with pytest.raises(Expected):
            check(value)


@given(st.dictionaries(st.text("aB-:\r\n é", min_size=1), st.text(max_size=20), max_size=4))
def test_what_the_configuration_takes_is_one_line_of_a_head(headers: dict[str, str]) -> None:
    try:
        taken = header_map(headers)
    except Expected:
        return
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in taken.items()]
    head = RequestEncoder(Request(Origin("https", "b.test", 443), "POST", b"/", lines)).head
    assert len(head.split(b"\r\n")) == len(lines) + 5
    assert head.count(b"\r") == head.count(b"\n") == len(lines) + 4


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_key_from_outside_the_configuration_that_would_end_a_line_is_not_sent(
    chain: Callable[..., Chain],
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setenv("A_KEY", f"{HIDDEN}{end}x-injected: 1")
    asked, spare = upstream(scripted.reply("no")), upstream(scripted.reply("ok"))
    proxy = running(
        f'[primary]\nbase_url = "{asked.url}"\napi_key_env = "A_KEY"\n'
        f'[[providers]]\nname = "b"\nbase_url = "{asked.url}"\n'
        f'api_key_command = ["printf", "{HIDDEN}\\rx-injected: 1"]\n'
        f'[[providers]]\nname = "c"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )
    answer = httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    assert answer.headers["x-ccfallback-provider"] == "c"
    assert asked.received == []
    proxy.wait_for("request.complete")
    assert HIDDEN not in str(proxy.records)


ODD_IDS = [
    b"\xff\xfe",
    b"a\tb",
    b"id\xe2\x80\xa8x",
    b"%0d%0ax",
    b"a;b",
    b"<b>",
    b"a" * 4000,
    b"\\n",
]


def raw(url: str, request: bytes) -> bytes:
    """What the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("given_id", ODD_IDS, ids=range(len(ODD_IDS)))
def test_a_malformed_request_id_is_replaced_everywhere(
    chain: Callable[..., Chain], given_id: bytes
) -> None:
    running = chain(scripted.reply("ok"), more='[log]\nlevel = "debug"\n')
    body = b'{"model":"claude-x","max_tokens":1,"messages":[]}'
    answer = raw(
        running.url,
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"ccr-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (given_id, len(body), body),
    )
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.lower().count(b"ccr-request-id: ccr-") == 1
    assert given_id not in answer
    (asked,) = running.primary.received
    assert asked.header("ccr-request-id") is None
    said = running.proxy.wait_for("request.complete")
    assert said["requestId"].encode() in head


@pytest.mark.parametrize("line", [b"a\x00b", b"a\rx-injected: 1", b"a\nx y"])
def test_a_request_id_that_breaks_its_line_is_refused(
    chain: Callable[..., Chain], line: bytes
) -> None:
    running = chain(scripted.reply("ok"))
    request = (
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nccr-request-id: %b\r\n\r\n"
    )
    answer = raw(running.url, request % line)
    assert b"x-injected" not in answer
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_the_reprs_are_still_useful() -> None:
    assert "name='b'" in repr(PROVIDER)
    assert "id='id'" in repr(Context("id", CONFIG, ClientHeaders(HEADERS), frozenset()))
    assert replace(PROVIDER, base_url="https://c.test") != PROVIDER
