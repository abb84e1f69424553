"""Event loops of both kinds, watched; certificates, good and bad; a stage for faults."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ccfallback.paths import Paths
from ccfallback.simulator.faults import UnreachableAddresses
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.conftest import RunningProxy
from tests.server.raw_upstream import Runs
from tests.server.stage import Stage

LIMIT = 60
"""Seconds for one story."""


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


FACTORIES = loop_factories()


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Runs:
    """Runs a story; fails when a task is left or an error went past everybody."""
    complaints: list[dict[str, Any]] = []

    async def watched(story: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(LIMIT):
            await story()
        for _ in range(20):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run_story(story: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        with asyncio.Runner(loop_factory=FACTORIES[request.param]) as runner:
            runner.run(watched(story))
        assert not complaints

    return run_story


@dataclass(frozen=True)
class Certificates:
    """A folder with an authority and what it signed."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def client(self) -> ssl.SSLContext:
        """What trusts the authority, and nobody else."""
        return ssl.create_default_context(cafile=str(self.authority))

    def server(self, name: str) -> ssl.SSLContext:
        """What shows the certificate of that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / "key.pem")
        return context


CONFIG = """
[ca]
default_ca = own
[own]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = names
[names]
"""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and its certificates `good`, `other` (another name) and `expired`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes certificates with the openssl command")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "openssl.cnf").write_text(CONFIG)
    (folder / "index.txt").touch()
    (folder / "serial").write_text("1000\n")

    def call(*arguments: str) -> None:
        done = subprocess.run(
            [openssl, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    call("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
    constraints = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    call(
        *("req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=authority", "-days", "2"),
        *("-config", "openssl.cnf", "-out", "ca.pem"),
        *(word for constraint in constraints for word in ("-addext", constraint)),
    )
    here = "DNS:localhost,IP:127.0.0.1,IP:::1"
    for name, names, until in (
        ("good", here, "20491231000000Z"),
        ("other", "DNS:other.test", "20491231000000Z"),
        ("expired", here, "20200102000000Z"),
    ):
        call(
            *("req", "-new", "-key", "key.pem", "-subj", f"/CN={name}", "-config", "openssl.cnf"),
            *("-addext", f"subjectAltName={names}", "-out", f"{name}.csr"),
        )
        call(
            *("ca", "-batch", "-notext", "-config", "openssl.cnf", "-cert", "ca.pem"),
            *("-keyfile", "key.pem", "-startdate", "20200101000000Z", "-enddate", until),
            *("-in", f"{name}.csr", "-out", f"{name}.pem"),
        )
    return Certificates(folder)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all the faults of a module."""
    folder = tmp_path_factory.mktemp("stage")
    paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
    with (
        ScriptedUpstream() as faulty,
        ScriptedUpstream() as well,
        UnreachableAddresses() as elsewhere,
    ):
        proxy = RunningProxy(paths)
        yield Stage(proxy, faulty, well, elsewhere)
        proxy.stop()
