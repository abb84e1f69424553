"""Fixtures for all tests: an empty home, a clean environment, and a proxy on loopback."""

import asyncio
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, settings

from ccfallback.paths import Paths
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream

pytest_plugins = ("tests.running",)

Record = dict[str, Any]
"""A record as the log file has it."""

SECRETS = (
    "AWS_",
    "GOOGLE_",
    "CLOUDSDK_",
    "ANTHROPIC_",
    "OPENAI_",
    "OPENROUTER_",
    "CCFALLBACK_",
    "CLAUDE",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# Every proxy that starts would read these files: 40 ms of CPU each time.
CERTIFICATES = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR")

# A busy machine must not fail a test, so hypothesis measures no time. The variable sets the number
# of examples for a long run by hand.
settings.register_profile(
    "ccfallback",
    max_examples=int(os.environ.get("CCFALLBACK_TEST_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ccfallback")

# A shell starts background jobs with this signal ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def shared_trust() -> Iterator[None]:
    """The httpx clients of tests share one TLS context.

    Each would take 20 ms of CPU to load the same certificates, which none needs on loopback.
    """
    create = httpx.create_ssl_context
    load = cache(create)

    def share(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        return load() if verify is True and cert is None else create(verify, cert, trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", share)
        yield


class Surroundings:
    """The environment and the home folder of tests: without keys, proxies, certificates and files.

    To make both for each of all tests would take a tenth of their time. So a test gets those of the
    test before, as long as that has left nothing there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._homes = count()
        self.coverage = {
            name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE")
        }
        """The variables with which a process measures its coverage."""
        for name in list(os.environ):
            if name.startswith(SECRETS) or name.lower() in PROXIES or name in CERTIFICATES:
                del os.environ[name]
        self._move()

    def restore(self) -> Path:
        """An empty home, in the same environment for each test."""
        now = _read_environ()
        if now != self._environ:
            for name in now.keys() - self._environ.keys():
                del os.environ[name]
            os.environ.update(self._environ)
        if any(self._home.iterdir()):
            self._move()
        return self._home

    def _move(self) -> None:
        self._home = self._folder / str(next(self._homes))
        self._home.mkdir()
        for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "APPDATA"):
            os.environ[name] = str(self._home)
        self._environ = _read_environ()


def _read_environ() -> dict[str, str]:
    """The environment, but for the variable in which pytest keeps the name of the running test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory, compiled: None) -> Surroundings:
    """Made once."""
    return Surroundings(tmp_path_factory.mktemp("homes"))


@pytest.fixture(autouse=True)
def home(surroundings: Surroundings) -> Path:
    """An empty home, and an environment without keys, proxies and certificates."""
    return surroundings.restore()


@pytest.fixture
def traced_processes(
    home: Path, surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes that a test starts measure their coverage, if this one does.

    It doubles their work, so only those do that run what no test runs in its own process.
    """
    for name, value in surroundings.coverage.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The files of one test."""
    folder = tmp_path / "ccf"
    return Paths(
        config=folder / "config.toml", state=folder / "state.json", log=folder / "log.jsonl"
    )


class RunningProxy:
    """A proxy that serves, with its files and all that it says."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.records: list[Record] = []
        self._changed = threading.Condition()
        self._background = BackgroundProxy(paths, log_level="debug", listeners=[self._record])
        self.url = self._background.url
        self._background.__enter__()

    def stop(self) -> None:
        """Let it finish."""
        self._background.stop()

    @property
    def loop_thread(self) -> int | None:
        """The identifier of the thread of its event loop."""
        return self._background.thread.ident

    def events(self, *names: str) -> list[Record]:
        """The records of these events so far, or all."""
        return [record for record in self.records if not names or record["event"] in names]

    def wait_for(self, event: str, count: int = 1) -> Record:
        """The `count`-th record of an event, waited for."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events(event)) >= count, timeout=10)
        return self.events(event)[count - 1]

    @property
    def state(self) -> dict[str, Any]:
        """The providers in the state file."""
        if not self.paths.state.exists():
            return {}
        providers: dict[str, Any] = msgspec.json.decode(self.paths.state.read_bytes())["providers"]
        return providers

    def _record(self, record: Any) -> None:
        with self._changed:
            self.records.append(msgspec.to_builtins(record))
            self._changed.notify_all()


@pytest.fixture
def running(paths: Paths) -> Iterator[Callable[[str], RunningProxy]]:
    """Starts a proxy with a configuration."""
    with ExitStack() as stack:

        def start(config: str) -> RunningProxy:
            paths.config.parent.mkdir(parents=True, exist_ok=True)
            paths.config.write_text(config)
            proxy = RunningProxy(paths)
            stack.callback(proxy.stop)
            return proxy

        yield start


@pytest.fixture
def upstream() -> Iterator[Callable[..., ScriptedUpstream]]:
    """Starts scripted upstreams."""
    with ExitStack() as stack:

        def start(*scripts: Script) -> ScriptedUpstream:
            return stack.enter_context(ScriptedUpstream(scripts))

        yield start


class Chain:
    """A proxy whose primary and fallbacks are scripted."""

    def __init__(self, proxy: RunningProxy, primary: ScriptedUpstream, *fallbacks: Any) -> None:
        self.proxy = proxy
        self.primary = primary
        self.fallbacks: tuple[ScriptedUpstream, ...] = fallbacks
        self.url = proxy.url

    @property
    def fallback(self) -> ScriptedUpstream:
        """The first fallback."""
        return self.fallbacks[0]


@pytest.fixture
def chain(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Callable[..., Chain]:
    """Starts a proxy in front of a primary and fallbacks: each given by its scripts."""

    def start(primary: Any, *fallbacks: Any, more: str = "") -> Chain:
        def scripts(given: Any) -> Any:
            return given if isinstance(given, list) else [given]

        first = upstream(*scripts(primary))
        others = [upstream(*scripts(fallback)) for fallback in fallbacks]
        config = more + f'\n[primary]\nbase_url = "{first.url}"\n'
        for number, other in enumerate(others, 1):
            config += (
                f'\n[[providers]]\nname = "fallback{number}"\nbase_url = "{other.url}"\n'
                f'api_key = "fallback-key-{number}"\n'
            )
        return Chain(running(config), first, *others)

    return start


def together(count: int, script: Script) -> Script:
    """Answers with `script` as soon as so many requests wait for it."""
    waiting: list[Received] = []
    all_there = asyncio.Event()

    async def wait(request: Received, connection: Connection) -> None:
        waiting.append(request)
        if len(waiting) == count:
            all_there.set()
        await all_there.wait()
        await script(request, connection)

    return wait
