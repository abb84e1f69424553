"""Amazon's signatures: the published algorithm's vectors, and botocore as the judge."""

from base64 import b64decode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Aws, Provider
from ccfallback.wire import FORMATS, aws
from ccfallback.wire.credential import AwsKeys, Credential
from ccfallback.wire.format import WireRequest

NOW: Final = datetime(2026, 11, 28, 12, 34, 56, tzinfo=UTC).timestamp()
KEYS: Final = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY: Final = AwsKeys(KEYS.access_key_id, KEYS.secret_access_key, "SESSIONTOKENEXAMPLE")
MODEL: Final = "us.anthropic.claude-sonnet-4-5-20250929-v1"
RUNTIME: Final = "https://bedrock-runtime.us-east-1.amazonaws.com"
BODY: Final = (
    b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":16,'
    b'"messages":[{"role":"user","content":"hi"}]}'
)
MANTLE_BODY: Final = (
    b'{"model":"anthropic.claude-opus-5-5","max_tokens":16,'
    b'"messages":[{"role":"user","content":"hi"}]}'
)
JSON: Final = (b"content-type", b"application/json")


def signature(headers: dict[str, str]) -> str:
    return headers["authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("colon", "keys", "expected"),
    [
        ("%3A", KEYS, "52f54097a6647d2b3fea142d1530d3e3fb4940d4486644f4290c9ec595008a10"),
        (":", KEYS, "7415391455429f856336cc1ea15b6e9630edefb9245eb9b35496446c3ac99efc"),
        ("%3A", TEMPORARY, "2be3695b485f28357c52270726134fa3ed95369a380d90ae291168083a18e2b8"),
    ],
)
def test_vectors_of_the_runtime(colon: str, keys: AwsKeys, expected: str) -> None:
    url = f"{RUNTIME}/model/{MODEL}{colon}0/invoke-with-response-stream"
    made = aws.signed_headers(
        "POST", url, [JSON], BODY, keys, region="us-east-1", service="bedrock", now=NOW
    )
    assert signature(made) == expected
    assert made["x-amz-date"] == "20261128T123456Z"
    assert made.get("x-amz-security-token", "") == keys.session_token


def test_the_path_is_encoded_twice() -> None:
    path = f"/model/{MODEL}%3A0/invoke-with-response-stream"
    text = aws.canonical_request("POST", path, "", {"host": "h"}, "hash")
    assert text.split("\n")[1] == f"/model/{MODEL}%253A0/invoke-with-response-stream"


def test_a_vector_of_mantle_through_the_format() -> None:
    url = "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages"
    provider = Provider(name="b", base_url=url)
    headers = [JSON, (b"anthropic-version", b"2023-06-01"), (b"via", b"1.1 x")]
    request = FORMATS["anthropic"].sign(
        WireRequest(url, headers, MANTLE_BODY), provider, Credential(aws=KEYS), NOW
    )
    sent = {name.decode(): value.decode() for name, value in request.headers}
    assert "SignedHeaders=anthropic-version;content-type;host;x-amz-date" in sent["authorization"]
    assert signature(sent) == "a5a856c2f0ccac203b5455d3cdc567ecbd06c02fdffa5571a036c3929dd40414"
    assert (request.url, request.body) == (url, MANTLE_BODY)
    assert KEYS.secret_access_key not in repr(request)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_signs_with_aws_keys_and_only_with_them(name: str) -> None:
    provider = Provider(name="b", base_url="http://127.0.0.1:9", aws=Aws(region="eu-west-1"))
    request = WireRequest("http://127.0.0.1:9/x", [JSON, (b"authorization", b"old")], b"{}")
    assert FORMATS[name].sign(request, provider, Credential("key"), NOW) is request
    assert FORMATS[name].sign(request, provider, None, NOW) is request
    signed = FORMATS[name].sign(request, provider, Credential(aws=TEMPORARY), NOW)
    sent = [value for header, value in signed.headers if header == b"authorization"]
    assert len(sent) == 1
    assert b"/20261128/eu-west-1/bedrock/aws4_request" in sent[0]


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "bedrock-mantle"),
        ("aws-external-anthropic.us-west-2.api.aws", "aws-external-anthropic"),
        ("127.0.0.1", "bedrock"),
    ],
)
def test_the_host_tells_the_service(host: str, service: str) -> None:
    assert aws.service_of_host(host) == service


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (KEYS, "18528f621a48f8499c3bf24dff22a6b039e13edfa44ceb91f2e708792e12a154"),
        (TEMPORARY, "6b6ca1217eff1727a86b363aaad3856cb57f99afb64714e2b45c83dbdbbc0a19"),
    ],
)
def test_vectors_of_short_term_keys(keys: AwsKeys, expected: str) -> None:
    key = aws.short_term_key(keys, region="us-east-1", now=NOW)
    assert len(key) == 448 or keys is TEMPORARY
    url = b64decode(key.removeprefix("bedrock-api-key-")).decode()
    assert url.startswith("bedrock.amazonaws.com/?Action=CallWithBearerToken&")
    assert url.endswith(f"&X-Amz-Signature={expected}&Version=1")


# --- The judge ---

NAMES: Final = st.text("abcXYZ019-_.~:/%@ é+*'()!$&=", max_size=12)
TOKENS: Final = st.text("abcdefXYZ0129/+=", min_size=1, max_size=40)


def botocore_signer(name: str, keys: AwsKeys, service: str, region: str) -> Any:
    auth = pytest.importorskip("botocore.auth", reason="botocore is not installed")
    credentials = pytest.importorskip("botocore.credentials").Credentials(
        keys.access_key_id, keys.secret_access_key, keys.session_token or None
    )
    return getattr(auth, name)(credentials, service, region)


def botocore_request(url: str, headers: dict[str, str], body: bytes = b"") -> Any:
    request = pytest.importorskip("botocore.awsrequest").AWSRequest("POST", url, headers, body)
    request.context["timestamp"] = "20261128T123456Z"
    return request


def signed_by_botocore(url: str, body: bytes, keys: AwsKeys, region: str, service: str) -> Any:
    signer = botocore_signer("SigV4Auth", keys, service, region)
    request = botocore_request(url, {"content-type": "application/json"}, body)
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return signer.signature(text, request)


@given(
    path=st.lists(NAMES, max_size=5),
    body=st.binary(max_size=200),
    secret=TOKENS,
    token=st.just("") | TOKENS,
    region=st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"]),
    service=st.sampled_from(["bedrock", "bedrock-mantle", "aws-external-anthropic"]),
    query=st.lists(st.tuples(st.text("abc-", min_size=1), st.text("abc%20-")), max_size=3),
)
def test_botocore_signs_the_same(
    path: list[str],
    body: bytes,
    secret: str,
    token: str,
    region: str,
    service: str,
    query: list[tuple[str, str]],
) -> None:
    encoded = "/".join(quote(part, safe=":@") for part in path)
    url = f"https://bedrock-runtime.{region}.amazonaws.com/{encoded}"
    if query:
        url += "?" + "&".join(f"{name}={value}" for name, value in query)
    keys = AwsKeys("AKIDEXAMPLE", secret, token)
    made = aws.signed_headers(
        "POST", url, [JSON], body, keys, region=region, service=service, now=NOW
    )
    assert signature(made) == signed_by_botocore(url, body, keys, region, service)


@given(secret=TOKENS, token=st.just("") | TOKENS)
def test_botocore_presigns_the_same_short_term_key(secret: str, token: str) -> None:
    keys = AwsKeys("AKIDEXAMPLE", secret, token)
    key = aws.short_term_key(keys, region="eu-west-1", now=NOW)
    url = b64decode(key.removeprefix("bedrock-api-key-")).decode()
    unsigned, _, rest = url.partition("&X-Amz-Signature=")
    signer = botocore_signer("SigV4QueryAuth", keys, "bedrock", "eu-west-1")
    signer.payload = lambda _request: sha256(b"").hexdigest()
    request = botocore_request(f"https://{unsigned}", {"host": "bedrock.amazonaws.com"})
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert rest == f"{signer.signature(text, request)}&Version=1"
