"""What follows from the configuration alone."""

from typing import Any

import pytest
from msgspec.structs import replace

from ccfallback.config.model import Config, KeySource, Network, Provider
from ccfallback.redact import Secret

B = Provider(name="b", base_url="https://b.test")
C = Provider(name="c", base_url="https://c.test", disabled=True)
PRIMARY = Config().primary
OFF = replace(PRIMARY, disabled=True)


def test_without_any_configuration_it_passes_through_to_anthropic() -> None:
    config = Config()
    assert config.primary.base_url == "https://api.anthropic.com"
    assert config.active == (config.primary,)
    assert not config.has_fallback
    assert not config.primary.key


def test_the_primary_is_first_in_the_chain() -> None:
    config = Config(providers=(B, C))
    assert config.chain == (PRIMARY, B, C)
    assert config.active == (PRIMARY, B)


@pytest.mark.parametrize(
    ("config", "fallback", "cooldowns"),
    [
        (Config(), False, False),
        (Config(providers=(B,)), True, True),
        (Config(providers=(C,)), False, False),
        (Config(primary=OFF, providers=(B,)), True, False),
        (Config(primary=OFF, providers=(C,)), False, False),
        (Config(primary=OFF), False, False),
    ],
)
def test_the_only_active_provider_never_cools_down(
    config: Config, fallback: bool, cooldowns: bool
) -> None:
    assert config.has_fallback is fallback
    assert config.cooldowns is cooldowns


def test_a_provider_by_name_the_primary_included() -> None:
    config = Config(providers=(B,))
    assert config.provider("anthropic-primary") is config.primary
    assert config.provider("b") is B
    assert config.provider("nobody") is None


def test_a_key_comes_from_somewhere_or_not_at_all() -> None:
    assert not KeySource()
    assert KeySource(literal=Secret("k"))
    assert KeySource(env="NAME")
    assert KeySource(command=("pass",))


def test_a_configuration_never_changes() -> None:
    with pytest.raises(AttributeError):
        Config().network = Network()  # type: ignore[misc] # that is the point


def test_no_secret_shows_in_a_configuration() -> None:
    config = Config(providers=(replace(B, key=KeySource(literal=Secret("hidden-key"))),))
    assert "hidden-key" not in repr(config)


def test_a_provider_is_an_account_for_each_of_its_keys() -> None:
    def accounts(**key: Any) -> list[tuple[str, KeySource]]:
        provider = Provider(name="p", base_url="https://p.test", key=KeySource(**key))
        return [(each.label, replace(each.key, number=0, whole=None)) for each in provider.accounts]

    x, y = KeySource(literal=Secret("x")), KeySource(literal=Secret("y"))
    assert accounts() == [("p", KeySource())]
    assert accounts(literal=Secret("x")) == [("p", x)]
    assert accounts(literals=(Secret("x"),)) == [("p", x)]
    assert accounts(literals=(Secret("x"), Secret("y"))) == [("p key 1", x), ("p key 2", y)]
    named = [("p key 1", KeySource(env="A")), ("p key 2", KeySource(env="B"))]
    assert accounts(env=("A", "B")) == named
    assert accounts(env="A") == [("p", KeySource(env="A"))]
    assert accounts(command=("pass",)) == [("p", KeySource(command=("pass",)))]


def test_no_account_shows_a_key() -> None:
    provider = Provider(
        name="p", base_url="https://p.test", key=KeySource(literals=(Secret("x-1"), Secret("y-1")))
    )
    assert "-1" not in repr(provider.accounts)
