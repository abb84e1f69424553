"""Nothing secret leaves."""

import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback import redact
from ccfallback.config.presets import presets
from ccfallback.redact import (
    Secret,
    debug_curl,
    is_secret_header,
    mask,
    mask_arguments,
    mask_headers,
    mask_url,
    scrub,
    scrub_misplaced,
)

MADE_UP_BASE64 = "Made0Up/Made1Up+Made2Up/Made3Up+Made4Up0"
SECRETS = st.text("abcXYZ019-_.", min_size=8, max_size=40)


@given(value=SECRETS)
def test_a_secret_shows_itself_only_when_asked(value: str) -> None:
    secret = Secret(value)
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r}", str([secret])):
        assert value not in shown
    assert secret.reveal() == value


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@given(value=st.text(max_size=60))
def test_a_mask_gives_away_nine_letters_of_a_long_key_at_most(value: str) -> None:
    shown = mask(value)
    if len(value) < 16:
        assert shown == "***"
    else:
        assert shown == f"{value[:5]}…{value[-4:]}"
    assert Secret(value).masked() == shown


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "x-api-key", "apikey", "Cookie", "x-auth-token", "X-Goog-Api-Key"),
        *("proxy-authorization", "client-secret", "x-amz-signature"),
    ],
)
def test_a_header_that_may_hold_a_credential(name: str) -> None:
    assert is_secret_header(name)


@pytest.mark.parametrize("name", ["accept", "content-type", "anthropic-beta", "user-agent"])
def test_a_header_that_holds_none(name: str) -> None:
    assert not is_secret_header(name)


@given(secrets=st.lists(SECRETS, max_size=4), around=st.text("abc ", max_size=5))
def test_a_scrubbed_text_holds_none_of_the_secrets(secrets: list[str], around: str) -> None:
    text = around.join(["", *secrets, ""])
    scrubbed = scrub(text, secrets)
    assert all(secret not in scrubbed for secret in secrets)


def test_a_secret_that_begins_like_another_leaves_no_tail() -> None:
    assert scrub("abcd1234", ["abcd", "abcd1234"]) == "***"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("key sk-not-a-real-key-0 here", "key *** here"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("bearer of bad news", "bearer of bad news"),
        ('{"k":"sk-aaaaaaaaaaaa"}', '{"k":"***"}'),
        ("ask-me-anything-now", "ask-me-anything-now"),
        ("nothing", "nothing"),
        ("key gsk_madeupmadeupmadeup here", "key *** here"),
        ("key hf_madeupmadeupmadeup here", "key *** here"),
        ("key AIza-made-up-made-up-made-up here", "key *** here"),
        ("key-made-up-0 ccf-made-up-0", "*** ***"),
        ("KEY=ccf-madeupmadeup0", "KEY=***"),
        ("the hf_tokenizer of gsk_team", "the hf_tokenizer of gsk_team"),
        ("did you mean key-vault-proxy?", "did you mean key-vault-proxy?"),
        ("/srv/key-rotation/config.toml", "/srv/key-rotation/config.toml"),
        ("/tmp/ccf-test-dir1/config.toml", "/tmp/ccf-test-dir1/config.toml"),
    ],
)
def test_what_looks_like_a_key_is_masked_unasked(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("sk-not-a-real-key-0", "***"),
        ("gsk_AbCdEfGh1JkLmNoPqRs", "***"),
        ("0123456789abcdef0123456789abcdef x", "*** x"),
        ("htps://me:pass@h/v1?key=abc", "htps://***@h/v1?key=***"),
        ("X-Key=gsk_AbCdEfGh1JkLmNoPqRs", "X-Key=***"),
        ("a-long-name-without-any-digit", None),
        ("anthropic/claude-opus-5-5", None),
        ("htp://localhost:8787/v1", None),
        ("", None),
        ("bedrock-eu-central-1-prod", None),
        ("claude-sonnet-4-5-20250929", None),
        ("gpt-4o-mini-2024-07-18", None),
        ("qwen3-coder-480b-a35b-instruct", None),
        ("a_provider_of_the_year_2024", None),
        ("made-up-1a2b3c4d5e6f7g-key", "***"),
        ("made-up-0123456789-number", "***"),
        (MADE_UP_BASE64, "***"),
        (f"--base-url={MADE_UP_BASE64}== x", "--base-url=*** x"),
        (f"ABSK{MADE_UP_BASE64}/+tail=", "***"),
        (f"htps://h//x?y={MADE_UP_BASE64}", "htps://h//x?y=***"),
        (f"made//up/{MADE_UP_BASE64}", "***"),
        (f"sig={MADE_UP_BASE64}%3Dtail", "sig=***"),
        (f"eyJ{'MadeUp0' * 6}.made-up.tail", "***"),
        ("/Home/someone/Projects/Proxy2/Configurations/proxy", None),
        ("models/of/someone/who/likes/long/names/in/2024", None),
    ],
)
def test_a_value_in_a_wrong_place_shows_nothing_that_may_be_a_key(
    value: str, shown: str | None
) -> None:
    assert scrub_misplaced(value) == (value if shown is None else shown)


PIECES = [
    *(
        "sk-",
        "gsk-",
        "gsk_",
        "hf_",
        "AIza",
        "ccf-",
        "key-",
        "eyJ",
        "EYJ",
        "Bearer ",
        "BA\u017fIC ",
        "basic\t",
        "sig=",
        "\u017fig=",
        "Signature=",
    ),
    *("X-Amz-Security-Token: ", "x-goog-signature=", "a1b2c3d4e5f6g7h8i9j0k1", ", ", " ", "key"),
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=6))
def test_a_text_is_not_searched_only_if_nothing_in_it_looks_like_a_key(pieces: list[str]) -> None:
    text = "".join(pieces)
    thorough = redact._SIGNED.sub(lambda match: f"{match[1] or match[2]}***", text)
    thorough = redact._BEARER.sub(r"\1 ***", redact._KEY_LIKE.sub("***", thorough))
    assert scrub(text) == thorough


def test_a_text_with_many_beginnings_of_keys_is_searched_quickly() -> None:
    text = "key-" * 50_000
    started = time.process_time()
    assert scrub(text) == text
    assert time.process_time() - started < 5


def test_a_secret_of_three_letters_is_not_removed_from_a_text() -> None:
    assert scrub("the cat", ["cat", ""]) == "the cat"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("pass show openrouter/api-key", "pass show openrouter/api-key"),
        ("op read op://vault/item-of-2024/credential", None),
        ("security find-generic-password -w -s openrouter", None),
        ("vault read --token=s.abcdefghijklmnop kv/x", "vault read --token=s.abc…mnop kv/x"),
        ("get --password short", "get --password ***"),
        ("get --password-stdin", None),
        ("curl -H token:x https://keys.test/one", None),
        ("echo sk-abcdefgh12345678", "echo ***"),
        ("echo 0123456789abcdefghij", "echo 01234…ghij"),
        ("/opt/tools-0123456789abcdefghijk", None),
        ("tool-0123456789abcdefghijk x", None),
    ],
)
def test_the_arguments_of_a_program_that_may_be_secrets(command: str, shown: str | None) -> None:
    assert " ".join(mask_arguments(command.split())) == (shown or command)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://h/x?beta=true", "https://h/x?beta=true"),
        ("https://h/x?key=abc", "https://h/x?key=***"),
        (
            "https://h/x?api-version=1&access_token=abc",
            "https://h/x?api-version=1&access_token=***",
        ),
        ("https://h/x?a=1;b=2", "https://h/x?a=***;b=***"),
        ("https://h/x?flag&a=", "https://h/x?flag&a="),
        ("https://me:secret@h/x", "https://***@h/x"),
        ("https://sk-0123456789abc@[broken", "https://***@[broken"),
        ("https://h/sk-0123456789abc/v1", "https://h/***/v1"),
    ],
)
def test_a_masked_url_has_no_user_and_no_secret_query(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "https://gw.example/v1/0123456789abcdef0123456789abcdef/gateway/anthropic",
            "https://gw.example/v1/***/gateway/anthropic",
        ),
        ("https://h/AbCdEfGhIjKlMnOpQrStUv12/v1?a=b", "https://h/***/v1?a=***"),
        ("https://h//AbCdEfGhIjKlMnOpQrStUv12", "https://h//***"),
        ("https://h/hooks/12345678-1234-1234-1234-123456789abc", "https://h/hooks/***"),
        ("https://h/v1/key-AbCdEfGhIjKlMnOpQrStUv12", "https://h/v1/***"),
    ],
)
def test_a_random_part_of_a_path_is_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://openrouter.ai/api/v1/chat/completions",
        "https://h0123456789abcdef0123456789abcdef.example/v1",
        "https://h/anthropic-messages-2024-gateway-v1-beta",
        "https://h/openai/deployments/gpt-4o-2024-08-06",
        "https://h/averyveryverylongwordofletters/v1",
        *(preset.base_url for preset in presets().values()),
    ],
)
def test_a_path_that_a_person_chose_is_shown(url: str) -> None:
    assert mask_url(url) == url


def test_masked_headers_keep_only_what_is_not_a_credential() -> None:
    headers = {"X-Title": "cc", "X-Api-Token": "abc", "X-Note": "sk-0123456789abc"}
    assert mask_headers(headers) == {"X-Title": "cc", "X-Api-Token": "***", "X-Note": "***"}


PROVIDER_KEY = "the-providers-own-key"


def test_the_curl_command_repeats_the_request() -> None:
    command = debug_curl(
        "https://h/v1/messages?beta=true",
        [(b"x-api-key", PROVIDER_KEY.encode()), (b"anthropic-version", b"2023-06-01")],
    )
    assert shlex.split(command) == [
        *("curl", "-sS", "-X", "POST", "https://h/v1/messages?beta=true"),
        *("-H", "x-api-key: ***", "-H", "anthropic-version: 2023-06-01"),
        *("--data-binary", "@request.json"),
    ]


@given(
    name=st.sampled_from([b"authorization", b"x-api-key", b"x-title", b"cookie", b"x-other"]),
    before=st.text("ab '\"$`\\;&é", max_size=5),
    where=st.sampled_from(["https://h/", "https://h/?code={}", "https://h/?api-key={}&x=1"]),
)
def test_no_secret_is_in_the_curl_command(name: bytes, before: str, where: str) -> None:
    headers = [(name, f"{before}{PROVIDER_KEY}".encode("latin-1"))]
    command = debug_curl(where.format(PROVIDER_KEY), headers, [PROVIDER_KEY])
    assert PROVIDER_KEY not in command


@given(value=st.text(st.characters(max_codepoint=255), max_size=20))
def test_a_shell_reads_every_header_as_one_word(value: str) -> None:
    words = shlex.split(debug_curl("https://h/", [(b"x-a", value.encode("latin-1"))]))
    assert len(words) == 9
    assert words[-1] == "@request.json"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("?X-Amz-Signature=0a1b2c&X-Amz-Date=1", "?X-Amz-Signature=***&X-Amz-Date=1"),
        ("x-amz-security-token: IQoJb3Jp%2F== is old", "x-amz-security-token:*** is old"),
        ("X-Goog-Signature=00ff&x=1", "X-Goog-Signature=***&x=1"),
        ("?sv=1&sig=abcDEF123%2Babcdef0%3D&se=2", "?sv=1&sig=***&se=2"),
        ("SignedHeaders=host, Signature=0123456789abcdef0", "SignedHeaders=host, Signature=***"),
        ("messages.1.content.0.signature: Invalid `signature`", None),
        ("signature=bad", None),
    ],
)
def test_what_makes_a_signed_url_valid_is_masked(text: str, shown: str | None) -> None:
    assert scrub(text).replace(": ***", ":***") == (shown or text)
