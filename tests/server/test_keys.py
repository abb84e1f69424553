"""Keys at the moment they are needed."""

import asyncio
import sys
from pathlib import Path

import pytest

from ccfallback.config.model import KeySource, Provider
from ccfallback.config.secrets import KeyUnavailable
from ccfallback.redact import Secret
from ccfallback.server.keys import Keys


def provider(key: KeySource) -> Provider:
    """A provider with that key."""
    return Provider(name="a", base_url="https://a.test", key=key)


def counting(folder: Path) -> KeySource:
    """A command that notes each of its runs."""
    runs = folder / "runs"
    code = (
        f"open({str(runs)!r}, 'a').write('x'); print('key-' + str(len(open({str(runs)!r}).read())))"
    )
    return KeySource(command=(sys.executable, "-c", code))


def test_a_commands_key_is_asked_for_once_however_many_need_it(tmp_path: Path) -> None:
    async def story() -> list[Secret | None]:
        keys, asked = Keys(), provider(counting(tmp_path))
        first = await asyncio.gather(*(keys.of(asked) for _ in range(5)))
        keys.forget(asked)
        return [*first, await keys.of(asked)]

    found = asyncio.run(story())
    assert found == [Secret("key-1")] * 5 + [Secret("key-2")]


def test_a_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        keys, asked = Keys(), provider(KeySource(env="SOME_KEY"))
        with pytest.raises(KeyUnavailable, match="SOME_KEY"):
            await keys.of(asked)
        monkeypatch.setenv("SOME_KEY", "now-set")
        assert await keys.of(asked) == Secret("now-set")

    asyncio.run(story())
