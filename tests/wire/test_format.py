"""What a format is made of, and that every format is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.wire import FORMATS
from ccfallback.wire.format import Usage
from ccfallback.wire.target import ENDPOINTS

PROVIDER = Provider(name="b", base_url="https://h.test")
ASKED = Body.parse(b'{"model":"m","messages":[],"stream":true}')
MEMBERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


def test_the_last_word_counts_member_by_member() -> None:
    usage = Usage()
    usage.take({"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 7})
    usage.take({"output_tokens": 9, "cache_creation_input_tokens": 3, "input_tokens": None})
    assert usage == Usage(input_tokens=5, output_tokens=9, cache_read=7, cache_write=3)
    assert usage.prompt_tokens == 15


def test_without_a_word_nothing_is_known() -> None:
    assert Usage().prompt_tokens is None
    assert Usage(cache_read=5).prompt_tokens is None
    assert Usage(input_tokens=5).prompt_tokens == 5


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@given(value=JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON) | st.lists(JSON))
def test_no_usage_object_raises_and_only_numbers_count(value: object) -> None:
    usage = Usage()
    usage.take(value)
    for count in (usage.input_tokens, usage.output_tokens, usage.cache_read, usage.cache_write):
        assert count is None or type(count) is int


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_known_by_its_name_and_has_an_endpoint(name: str) -> None:
    assert FORMATS[name].name == name
    assert name in ENDPOINTS


@pytest.mark.parametrize("name", FORMATS)
def test_a_fresh_translator_has_said_nothing(name: str) -> None:
    stream = FORMATS[name].stream(ASKED, PROVIDER)
    said = [stream.heard, stream.started, stream.complete, stream.finished]
    assert not any(said)
    assert stream.error is None
    assert stream.usage == Usage()
    assert stream.finish() == b""
    assert not stream.complete


@pytest.mark.parametrize("name", FORMATS)
@given(chunks=st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_make_a_format_raise(name: str, chunks: list[bytes]) -> None:
    stream = FORMATS[name].stream(ASKED, PROVIDER)
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
    assert FORMATS[name].whole(b"".join(chunks), ASKED, PROVIDER).error is not None
