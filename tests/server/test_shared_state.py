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
from ccfallback.state.store import StateStore
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

    def ask(
        self, number: int, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """A request to one of the servers."""
        url, body = f"{self.servers[number].url}/v1/messages", {**ASKED, **more}
        return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)

    def provider(self, number: int, **more: Any) -> str:
        """Which provider answers a request to one of the servers."""
        response = self.ask(number, **more)
        assert response.status_code == 200, response.text
        provider: str = response.headers["x-ccfallback-provider"]
        return provider

    @property
    def stores(self) -> list[StateStore]:
        """The stores of the servers."""
        return [each._background.proxy.services.breakers._store for each in self.servers]

    def agree(self) -> None:
        """Wait until all know what is in the store."""
        until(lambda: len({str(store.load().version) for store in self.stores}) == 1)


@pytest.fixture
def team(
    tmp_path: Path,
    redis_server: RedisServer,
    upstream: Callable[..., ScriptedUpstream],
) -> Iterator[Callable[..., Team]]:
    """Starts so many servers in front of a primary and fallbacks."""
    with ExitStack() as stack:

        def start(
            count: int,
            *upstreams: Any,
            more: str = "",
            url: str = "",
            place: str = "redis",
            login: bool = False,
        ) -> Team:
            first, *others = [upstream(*each) for each in upstreams]
            url = "" if place == "file" else url or redis_server.url
            key = "" if login else 'api_key = "key"\n'
            config = f'[state]\nurl = "{url}"\n{more}\n'
            config += f'[primary]\nbase_url = "{first.url}"\n{key}'
            for number, other in enumerate(others, 1):
                config += f'[[providers]]\nname = "fallback{number}"\nbase_url = "{other.url}"\n'
                config += f'api_key = "key-{number}"\n'
            servers = []
            for number in range(count):
                folder = tmp_path / f"server{number}"
                folder.mkdir()
                state = (tmp_path if place == "file" else folder) / "state.json"
                paths = Paths(folder / "config.toml", state, folder / "log" / "log.jsonl")
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


LOGIN = {"authorization": "Bearer sk-ant-oat-dummy"}


@pytest.mark.parametrize("place", ["file", "redis"])
def test_a_refused_login_is_known_to_the_server_of_the_next_try(
    place: str, team: Callable[..., Team]
) -> None:
    refused = scripted.error(401, "authentication_error")
    running = team(2, [refused], [WELL], place=place, login=True)
    assert running.ask(0, headers=LOGIN).status_code == 401
    running.agree()
    second = running.ask(1, headers=LOGIN)
    assert (second.status_code, second.headers["x-ccfallback-provider"]) == (200, "fallback1")
