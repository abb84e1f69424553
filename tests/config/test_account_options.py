"""The options of a provider's account: `auth`, `aws`, `google` and `context_window`."""

import tomllib
from typing import Any

import pytest

from ccfallback.config import schema
from ccfallback.config.changes import compare
from ccfallback.config.edit import Document, ProviderChanges, add_provider, change_provider
from ccfallback.config.model import Config, Provider
from ccfallback.config.options import to_table
from ccfallback.errors import ConfigError
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.wire import FORMATS

TABLE = {
    "name": "a",
    "base_url": "https://a.test",
    "auth": "aws",
    "aws": {"profile": "work", "region": "eu-central-1", "sign": "sigv4"},
    "google": {"project": "my-project", "location": "europe-west1"},
    "context_window": 131072,
}


def load(**changes: Any) -> Config:
    table = {"providers": [{**TABLE, **changes}]}
    return schema.parse(table, formats=FORMATS)


def test_every_key_is_read_and_written_again() -> None:
    provider = load().providers[0]
    assert (provider.aws.profile, provider.aws.region, provider.aws.sign) == (
        "work",
        "eu-central-1",
        "sigv4",
    )
    assert (provider.google.project, provider.google.location) == ("my-project", "europe-west1")
    assert provider.context_window == 131072
    written = to_table(provider)
    assert {key: written[key] for key in TABLE} == TABLE


def test_the_defaults() -> None:
    provider = Provider(name="a", base_url="https://a.test")
    assert (provider.auth, provider.aws.sign, provider.google.location) == (
        "key",
        "bearer",
        "global",
    )
    assert provider.context_window is None
    assert not provider.has_credential
    assert load().providers[0].has_credential


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"auth": "amazon"}, "providers.a.auth"),
        ({"aws": "work"}, "providers.a.aws"),
        ({"aws": {"sign": "v4"}}, "providers.a.aws.sign"),
        ({"aws": {"region": "evil.test/"}}, "providers.a.aws.region"),
        ({"aws": {"regoin": "eu-central-1"}}, "providers.a.aws.regoin"),
        ({"google": {"project": "a/b"}}, "providers.a.google.project"),
        ({"google": {"location": ""}}, "providers.a.google.location"),
        ({"context_window": 0}, "providers.a.context_window"),
        ({"context_window": "128k"}, "providers.a.context_window"),
    ],
)
def test_a_wrong_value_is_named(changes: Any, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    assert [fault.key for fault in caught.value.faults] == [place]


def test_changes_reach_the_tables_below_a_provider() -> None:
    document = Document("")
    add_provider(document, "a", ProviderChanges({"base_url": "https://a.test", "aws.region": "x"}))
    assert tomllib.loads(document.text)["providers"][0]["aws"] == {"region": "x"}
    change_provider(document, "a", ProviderChanges({"aws.profile": "work", "aws.region": None}))
    assert tomllib.loads(document.text)["providers"][0]["aws"] == {"profile": "work"}
    change_provider(document, "a", ProviderChanges({"aws.profile": None, "google.project": None}))
    assert "aws" not in tomllib.loads(document.text)["providers"][0]
    change_provider(document, "anthropic-primary", ProviderChanges({"aws.region": "eu-west-1"}))
    assert tomllib.loads(document.text)["primary"] == {"aws": {"region": "eu-west-1"}}


def test_a_difference_names_the_default_of_a_key_below_a_table() -> None:
    before = {"providers": [{"name": "a"}]}
    after = {"providers": [{"name": "a", "aws": {"sign": "sigv4"}}]}
    assert compare(before, after).lines == ("~ a.aws.sign bearer → sigv4",)


def test_another_account_is_another_provider_for_what_was_learned() -> None:
    first = load().providers[0]
    same = load(context_window=5, retry=3).providers[0]
    other = load(aws={"profile": "home"}).providers[0]
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)
    plain = Provider(name="a", base_url="https://a.test", format="anthropic")
    assert fingerprint(plain) == "714350d27631ac56"
