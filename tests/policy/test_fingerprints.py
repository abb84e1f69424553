"""The fingerprint of what a fact about a provider is about."""

import pytest
from msgspec.structs import replace

from ccfallback.config.model import KeySource, Provider, Timeouts
from ccfallback.policy.fingerprints import fingerprint, hash_keys, hash_text
from ccfallback.redact import Secret

PROVIDER = Provider(
    name="relay",
    base_url="https://relay.example/v1",
    key=KeySource(literal=Secret("sk-first")),
    model_mapping={"claude-opus-*": "opus", "*": "small"},
)


@pytest.mark.parametrize(
    "other",
    [
        replace(PROVIDER, base_url="https://other.example/v1"),
        replace(PROVIDER, format="openai"),
        replace(PROVIDER, auth_header="Authorization"),
        replace(PROVIDER, key=KeySource(literal=Secret("sk-second"))),
        replace(PROVIDER, key=KeySource(env="RELAY_KEY")),
        replace(PROVIDER, key=KeySource(command=("pass", "relay"))),
        replace(PROVIDER, key=KeySource()),
    ],
)
def test_another_server_format_or_key_has_another_fingerprint(other: Provider) -> None:
    assert fingerprint(other) != fingerprint(PROVIDER)
    assert fingerprint(other, "claude-opus-5") != fingerprint(PROVIDER, "claude-opus-5")


@pytest.mark.parametrize(
    "other",
    [
        replace(PROVIDER, name="renamed"),
        replace(PROVIDER, base_url="https://relay.example/v1/"),
        replace(PROVIDER, retry=3),
        replace(PROVIDER, disabled=True),
        replace(PROVIDER, headers={"X-Title": "Claude Code"}),
        replace(PROVIDER, timeouts=Timeouts(idle=5.0)),
        replace(PROVIDER, auth_header="X-Api-Key"),
    ],
)
def test_other_settings_do_not_change_the_fingerprint(other: Provider) -> None:
    assert fingerprint(other) == fingerprint(PROVIDER)


def test_the_fingerprint_of_a_model_is_that_of_its_mapping() -> None:
    remapped = replace(PROVIDER, model_mapping={"claude-opus-*": "opus", "*": "large"})
    assert fingerprint(remapped) == fingerprint(PROVIDER)
    assert fingerprint(remapped, "claude-opus-5") == fingerprint(PROVIDER, "claude-opus-5")
    assert fingerprint(remapped, "claude-haiku-5") != fingerprint(PROVIDER, "claude-haiku-5")
    assert fingerprint(PROVIDER, "claude-haiku-5") == fingerprint(PROVIDER, "claude-sonnet-5")


def test_the_fingerprint_is_the_same_in_every_process_and_shows_no_key() -> None:
    assert fingerprint(PROVIDER) == "2f4b5072646db2be"
    assert "first" not in fingerprint(PROVIDER)


def test_a_model_name_with_half_a_surrogate_pair_has_a_fingerprint() -> None:
    assert fingerprint(replace(PROVIDER, model_mapping={}), "claude-\ud83d")


def test_all_keys_of_a_provider_have_one_fingerprint() -> None:
    key = KeySource(literals=(Secret("x"), Secret("y")))
    several = replace(PROVIDER, key=key)
    assert {fingerprint(each) for each in several.accounts} == {fingerprint(several)}
    others = [KeySource(literals=(Secret("x"),)), KeySource(env=("X", "Y")), KeySource()]
    assert len({fingerprint(replace(PROVIDER, key=each)) for each in (key, *others)}) == 4


def test_a_key_is_known_by_its_hash() -> None:
    assert hash_keys(KeySource(literal=Secret("x")), {}) == ()
    literals = hash_keys(KeySource(literals=(Secret("x"), Secret("y"))), {})
    assert literals == hash_keys(KeySource(env=("X", "Y")), {"X": "x", "Y": "y"})
    assert len(set(literals)) == 2
    assert all(len(each) == 16 for each in literals)
    # A variable that is not set is a key as well: the empty one.
    assert hash_keys(KeySource(env=("X", "Y")), {"X": "x"})[0] == literals[0]


def test_the_hash_of_a_credential_is_that_of_older_state_files() -> None:
    assert hash_text(b"sk-first") == "861e9aa93ffe2d76"


def test_only_slashes_at_the_end_of_an_address_do_not_count() -> None:
    other = replace(PROVIDER, base_url="https://relay.example/v1~")
    assert fingerprint(other) != fingerprint(PROVIDER)


def test_a_fingerprint_has_sixteen_digits_because_those_in_state_files_have() -> None:
    assert len(fingerprint(PROVIDER)) == 16
