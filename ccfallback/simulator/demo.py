"""The whole proxy at work on this machine, without a key or a network.

A scripted primary fails as Anthropic does when it is overloaded, a scripted fallback works, and
one real request goes through the real proxy in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.paths import Paths
from ccfallback.server.record import Record
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream

QUESTION: Final = "Does Claude Code go on when Anthropic is overloaded?"
ANSWER: Final = "Yes: you are reading this from a fallback, and the turn was not lost."


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the client of the demonstration saw."""

    status: int
    provider: str | None
    attempts: int
    seconds: float
    text: str

    @property
    def ok(self) -> bool:
        """Whether the fallback answered for the failing primary."""
        return self.status == 200 and self.provider == "spare" and self.text == ANSWER


def demo(listener: Callable[[Record], None]) -> DemoResult:
    """Run it; `listener` is called with each record of the log."""
    overloaded = scripted.error(529, "overloaded_error", "Overloaded")
    with (
        TemporaryDirectory(prefix="ccfallback-demo-") as folder,
        ScriptedUpstream([overloaded]) as primary,
        ScriptedUpstream([scripted.reply(ANSWER)]) as spare,
    ):
        paths = _write_config(Path(folder), primary.url, spare.url)
        with BackgroundProxy(paths, log_level="info", listeners=[listener]) as proxy:
            return _send_request(proxy.url)


def _write_config(folder: Path, primary: str, spare: str) -> Paths:
    config = folder / "config.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'[primary]\nbase_url = "{primary}"\n\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare}"\napi_key = "demo-key"\n'
    )
    return Paths(config=config, state=folder / "state.json", log=folder / "log.jsonl")


def _send_request(url: str) -> DemoResult:
    body = {
        "model": "claude-demo",
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    # The environment may name an outgoing proxy, and the demonstration stays on this machine.
    with httpx.Client(trust_env=False, timeout=60) as client:
        response = client.post(f"{url}/v1/messages", json=body)
    text = ""
    if response.status_code == 200:
        blocks = msgspec.json.decode(to_message(response.content))["content"]
        text = "".join(block.get("text", "") for block in blocks)
    return DemoResult(
        status=response.status_code,
        provider=response.headers.get("x-ccfallback-provider"),
        attempts=int(response.headers.get("x-ccfallback-attempts", "0")),
        seconds=response.elapsed.total_seconds(),
        text=text,
    )
