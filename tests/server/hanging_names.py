"""Run in mount and network namespaces of its own: a proxy while the name servers are silent.

Prints which providers answered eight requests at once, as one JSON document.
"""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec

from ccfallback.paths import Paths
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.simulator.scripted_format import ANTHROPIC
from tests.server.offline import ASK, ip

SERVER = "127.0.0.2"
CLIENTS = 8
"""Twice as many as uvloop has threads for lookups."""


def story(folder: Path) -> list[list[object]]:
    """The status of each answer, and the provider that gave it."""
    settings = folder / "resolv.conf"
    settings.write_text(f"nameserver {SERVER}\noptions timeout:30 attempts:2\n")
    subprocess.run(["mount", "--bind", str(settings), "/etc/resolv.conf"], check=True)
    paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        ScriptedUpstream(scripts=[ANTHROPIC.works()]) as upstream,
    ):
        silent.bind((SERVER, 53))
        # The timeout holds for the living fallback as well, on however busy a machine.
        paths.config.write_text(
            '[primary]\nbase_url = "http://api.primary.example"\ntimeouts = { connect = 0.5 }\n'
            f'[[providers]]\nname = "local"\nbase_url = "{upstream.url}"\n'
            "timeouts = { connect = 5 }\n"
        )
        with BackgroundProxy(paths) as proxy, ThreadPoolExecutor(CLIENTS) as clients:

            def ask(_: int) -> list[object]:
                answer = httpx.post(
                    f"{proxy.url}/v1/messages", json=ASK, timeout=60, trust_env=False
                )
                return [answer.status_code, answer.headers.get("x-ccfallback-provider")]

            return list(clients.map(ask, range(CLIENTS)))


if __name__ == "__main__":
    ip("link", "set", "lo", "up")
    with TemporaryDirectory() as folder:
        seen = story(Path(folder))
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
    sys.stdout.write(msgspec.json.encode(seen).decode())
