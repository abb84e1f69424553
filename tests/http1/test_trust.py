"""The TLS context for upstreams, and a disk from which it can't be read."""

import ssl
import threading

import pytest

from ccfallback.config.model import Network
from ccfallback.http1 import HTTPError, Trust, TrustUnavailable
from ccfallback.policy.outcome import Fault
from ccfallback.server.trust import TrustedRoots
from ccfallback.server.upstream import UpstreamRequest, Upstreams, describe_error


class HangingDisk:
    """Loads a context only when it may go on, and counts how often that was asked for."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.loads = 0

    def load(self) -> ssl.SSLContext:
        self.loads += 1
        assert self.goes_on.wait(30)
        return self.context


async def test_all_that_wait_for_a_hanging_disk_share_one_thread_which_goes_on() -> None:
    disk = HangingDisk()
    trust = Trust(disk.load)
    for _ in range(3):
        with pytest.raises(TrustUnavailable, match="no answer from the disk"):
            await trust.get(0.01)
    disk.goes_on.set()
    assert await trust.get(30) is disk.context
    assert await trust.get() is disk.context
    assert disk.loads == 1
    trust.close()


async def test_a_context_that_could_not_be_read_is_loaded_again() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    errors = [FileNotFoundError(2, "No such file or directory"), ssl.SSLError("no start line")]

    def load() -> ssl.SSLContext:
        if errors:
            raise errors.pop(0)
        return context

    trust = Trust(load)
    for why in ("No such file or directory", "no start line"):
        with pytest.raises(TrustUnavailable, match=why):
            await trust.get()
    assert await trust.get() is context


async def test_a_given_context_is_not_loaded() -> None:
    disk = HangingDisk()
    trust = Trust(disk.load, disk.context)
    assert await trust.get(0.0) is disk.context
    trust.close()
    assert disk.loads == 0


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
@pytest.mark.parametrize("how", ["hangs", "refuses"])
async def test_certificates_that_cannot_be_read_are_this_machines_fault(
    proxy: str | None, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HangingDisk()

    def refuse(_roots: TrustedRoots) -> ssl.SSLContext:
        raise OSError(5, "Input/output error")

    loads = refuse if how == "refuses" else lambda _roots: disk.load()
    monkeypatch.setattr(TrustedRoots, "load", loads)
    upstreams = Upstreams(Network(proxy=proxy))
    try:
        with pytest.raises(HTTPError) as caught:
            await upstreams.send(UpstreamRequest("https://provider.test/v1", [], b"", 0.05))
        fault, reason = describe_error(caught.value)
    finally:
        disk.goes_on.set()
        await upstreams.aclose()
    assert fault is Fault.OWN_MACHINE
    why = "Input/output error" if how == "refuses" else "no answer from the disk"
    assert reason == f"this machine can't read its trusted certificates: {why}"
