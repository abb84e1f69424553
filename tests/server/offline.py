"""Run in a network namespace of its own: a proxy whose machine goes offline and comes back.

Prints what a client saw, and what the breakers and the log then held, as one JSON document.
"""

import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec

from ccfallback.paths import Paths
from ccfallback.server.record import Record
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.simulator.scripted_format import ANTHROPIC

ASK = {
    "model": "m",
    "max_tokens": 9,
    "stream": True,
    "messages": [{"role": "user", "content": "hi"}],
}
HOSTS = ("192.0.2.1", "198.51.100.1")
"""Two addresses that no route leads to, until they are this machine's own."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def come_back(record: Record) -> None:
    """Bring the network back once the first look at it has failed."""
    ip("address", "add", f"{HOSTS[0]}/32", "dev", "lo")
    back.set()


back = threading.Event()


def story(folder: Path, *, returns: bool) -> dict[str, Any]:
    """One request while the network is down; it `returns` while the request waits, or not."""
    records: list[Record] = []

    def listen(record: Record) -> None:
        records.append(record)
        if returns and record.event == "provider.failure" and not back.is_set():
            come_back(record)

    folder.mkdir()
    paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
    with ScriptedUpstream(host="0.0.0.0", scripts=[ANTHROPIC.works()]) as upstream:
        port = upstream.port
        paths.config.write_text(
            f'[breaker]\nnetwork_wait = 1.2\n[primary]\nbase_url = "http://{HOSTS[0]}:{port}"\n'
            f'[[providers]]\nname = "spare"\nbase_url = "http://{HOSTS[1]}:{port}"\n'
        )
        with BackgroundProxy(paths, log_level="info", listeners=[listen]) as proxy:
            response = httpx.post(f"{proxy.url}/v1/messages", json=ASK, timeout=30, trust_env=False)
    held = msgspec.json.decode(paths.state.read_bytes()) if paths.state.exists() else {}
    return {
        "status": response.status_code,
        "headers": dict(response.headers),
        "text": response.text,
        "failures": {
            name: [each["consecutiveFailures"], each["cooldownUntil"]]
            for name, each in held.get("providers", {}).items()
        },
        "events": [record.event for record in records],
        "reasons": [record.data.reason for record in records if record.event == "provider.failure"],
    }


if __name__ == "__main__":
    ip("link", "set", "lo", "up")
    with TemporaryDirectory() as folder:
        down = story(Path(folder) / "down", returns=False)
        returning = story(Path(folder) / "returning", returns=True)
    sys.stdout.write(msgspec.json.encode({"down": down, "returning": returning}).decode())
