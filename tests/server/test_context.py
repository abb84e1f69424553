"""The candidate providers for a request, and providers' keys when they are needed."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccfallback.config.model import Config, KeySource, Provider
from ccfallback.config.secrets import KeyUnavailable
from ccfallback.redact import Secret
from ccfallback.server.context import SKIP_PRIMARY, Chains, Context, Keys

CONFIG = Config(
    providers=(
        Provider(name="one", base_url="https://one.test"),
        Provider(name="off", base_url="https://off.test", disabled=True),
    )
)


def context(config: Config, headers: Sequence[tuple[bytes, bytes]] = ()) -> Context:
    return Context("id", config, headers, frozenset())


def test_a_disabled_provider_is_not_in_the_chain() -> None:
    chain = Chains().get(context(CONFIG))
    assert chain.names == ["anthropic-primary", "one"]
    assert [provider.name for provider in chain.providers] == chain.names
    assert chain.excluded == {"off": "disabled"}


def test_a_header_excludes_the_primary_from_one_request() -> None:
    chains = Chains()
    skipping = context(CONFIG, [(SKIP_PRIMARY, b"1")])
    for _ in range(2):
        assert chains.get(skipping).names == ["one"]
        assert chains.get(skipping).excluded == {"anthropic-primary": "header", "off": "disabled"}
        assert chains.get(context(CONFIG)).names == ["anthropic-primary", "one"]


def test_another_configuration_has_other_chains() -> None:
    chains = Chains()
    chains.get(context(CONFIG))
    assert chains.get(context(Config())).names == ["anthropic-primary"]


def provider(key: KeySource) -> Provider:
    return Provider(name="a", base_url="https://a.test", key=key)


def key_command(folder: Path) -> KeySource:
    """A command that prints another key each time it runs."""
    runs = folder / "runs"
    code = (
        f"open({str(runs)!r}, 'a').write('x'); print('key-' + str(len(open({str(runs)!r}).read())))"
    )
    return KeySource(command=(sys.executable, "-c", code))


def test_requests_at_the_same_time_share_one_run_of_a_key_command(tmp_path: Path) -> None:
    async def story() -> list[Secret | None]:
        keys, asked = Keys(), provider(key_command(tmp_path))
        first = await asyncio.gather(*(keys.get(asked) for _ in range(5)))
        keys.forget(asked)
        return [*first, await keys.get(asked)]

    found = asyncio.run(story())
    assert found == [Secret("key-1")] * 5 + [Secret("key-2")]


def test_requests_share_the_failure_of_a_key_command(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit(1)"

    async def story() -> list[Secret | BaseException | None]:
        keys, asked = Keys(), provider(KeySource(command=(sys.executable, "-c", code)))
        together = asyncio.gather(*(keys.get(asked) for _ in range(5)), return_exceptions=True)
        return [*await together, *await asyncio.gather(keys.get(asked), return_exceptions=True)]

    found = asyncio.run(story())
    assert [type(each) for each in found] == [KeyUnavailable] * 6
    assert runs.read_text() == "x"


def test_an_environment_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        keys, asked = Keys(), provider(KeySource(env="SOME_KEY"))
        with pytest.raises(KeyUnavailable, match="SOME_KEY"):
            await keys.get(asked)
        monkeypatch.setenv("SOME_KEY", "now-set")
        assert await keys.get(asked) == Secret("now-set")

    asyncio.run(story())
