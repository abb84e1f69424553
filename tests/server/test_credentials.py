"""Providers' keys, looked up when they are needed."""

import asyncio
import sys
from pathlib import Path

import pytest

from ccfallback.config.model import KeySource, Provider
from ccfallback.credentials import KeyUnavailable
from ccfallback.server.credentials import Keys
from ccfallback.wire.credential import Credential


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
    async def story() -> list[Credential | None]:
        keys, asked = Keys(), provider(key_command(tmp_path))
        first = await asyncio.gather(*(keys.get(asked) for _ in range(5)))
        assert await keys.renew(asked, first[0])
        return [*first, await keys.get(asked)]

    found = asyncio.run(story())
    assert found == [Credential("key-1")] * 5 + [Credential("key-2")]


def test_requests_share_the_failure_of_a_key_command(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit(1)"

    async def story() -> list[Credential | BaseException | None]:
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
        assert await keys.get(asked) == Credential("now-set")

    asyncio.run(story())
