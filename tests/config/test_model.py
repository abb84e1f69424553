"""What follows from the configuration alone."""

from dataclasses import FrozenInstanceError, replace

import pytest

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
def test_with_one_active_provider_nobody_cools(
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
    with pytest.raises(FrozenInstanceError):
        Config().network = Network()  # type: ignore[misc] # that is the point


def test_no_secret_shows_in_a_configuration() -> None:
    config = Config(providers=(replace(B, key=KeySource(literal=Secret("hidden-key"))),))
    assert "hidden-key" not in repr(config)
