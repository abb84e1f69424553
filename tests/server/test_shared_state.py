"""Several servers on one Redis: what one of them learns holds at the others, and none waits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.state.redis_store import RedisStore
from tests.conftest import RunningProxy
from tests.shared_state import RedisServer, redis_server, until

__all__ = ["redis_server"]

ASKED = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "question"}]}
WELL = scripted.reply("answer")


class Team:
    """Servers with the same providers, and with one shared state."""

    def __init__(self, servers: list[RunningProxy], redis: RedisServer, config: str) -> None:
        self.servers = servers
        self.redis = redis
        self.config = config

    def ask(self, number: int, **more: Any) -> httpx.Response:
        """A request to one of the servers."""
        url = f"{self.servers[number].url}/v1/messages"
        return httpx.post(url, json={**ASKED, **more}, timeout=60, trust_env=False)

    def provider(self, number: int, **more: Any) -> str:
        """Which provider answers a request to one of the servers."""
        response = self.ask(number, **more)
        assert response.status_code == 200, response.text
        provider: str = response.headers["x-ccfallback-provider"]
        return provider

    def store(self, number: int) -> RedisStore:
        store = self.servers[number]._background.proxy.services.breakers._store
        assert isinstance(store, RedisStore)
        return store

    def agree(self) -> None:
        """Wait until all know what is in the store."""
        stores = [self.store(number) for number in range(len(self.servers))]
        until(lambda: len({store.load().version for store in stores}) == 1)


@pytest.fixture
def team(
    tmp_path: Path,
    redis_server: RedisServer,
    upstream: Callable[..., ScriptedUpstream],
) -> Iterator[Callable[..., Team]]:
    """Starts so many servers in front of a primary and fallbacks."""
    with ExitStack() as stack:

        def start(count: int, *upstreams: Any, more: str = "", url: str = "") -> Team:
            first, *others = [upstream(*each) for each in upstreams]
            config = f'[state]\nurl = "{url or redis_server.url}"\n{more}\n'
            config += f'[primary]\nbase_url = "{first.url}"\napi_key = "key"\n'
            for number, other in enumerate(others, 1):
                config += f'[[providers]]\nname = "fallback{number}"\nbase_url = "{other.url}"\n'
                config += f'api_key = "key-{number}"\n'
            servers = []
            for number in range(count):
                folder = tmp_path / f"server{number}"
                folder.mkdir()
                paths = Paths(
                    folder / "config.toml", folder / "state.json", folder / "log" / "log.jsonl"
                )
                paths.config.write_text(config)
                server = RunningProxy(paths)
                stack.callback(server.stop)
                servers.append(server)
            return Team(servers, redis_server, config)

        yield start


def test_a_failure_at_one_server_holds_at_the_others(team: Callable[..., Team]) -> None:
    limited = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    running = team(2, [limited, WELL], [WELL])
    assert running.provider(0) == "fallback1"
    running.agree()
    assert running.provider(1) == "fallback1"
    skips = running.servers[1].events("circuit_breaker.skip")
    assert [skip["data"]["provider"] for skip in skips] == ["anthropic-primary"]
    assert skips[0]["data"]["cooldownUntil"] > 1000 * (time() + 500)
