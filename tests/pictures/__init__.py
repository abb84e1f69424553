"""The terminal sessions of the README, made by the program itself.

`python -m tests.pictures` writes them into the README. They show a session that was recorded once
(`session.jsonl`, the log of a real proxy in front of scripted upstreams); `--record` records it
again.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import msgspec

from ccfallback.paths import Paths
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
SESSION: Final = Path(__file__).with_name("session.jsonl")

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "session": ("logs", "tail"),
    "explain": ("explain", "--last"),
}
"""The command whose output each picture is."""

_PICTURE: Final = re.compile(r"(<!-- picture: (\w+) -->\n```\n)(.*?)(```\n)", re.DOTALL)
_BEGAN: Final = datetime(2026, 11, 25, 15, 14, 26, tzinfo=UTC)
_COLUMNS: Final = 80


def draw(name: str) -> str:
    """A picture, as the README has it."""
    arguments = COMMANDS[name]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "ccfallback.jsonl"
        log.write_bytes(SESSION.read_bytes())
        shown = _run(_paths(Path(folder)), *arguments)
    return f"$ ccfallback {' '.join(arguments)}\n{shown}"


def redraw(text: str) -> str:
    """The text of a document with its pictures as the program draws them now."""
    return _PICTURE.sub(lambda found: f"{found[1]}{draw(found[2])}{found[4]}", text)


def _paths(folder: Path) -> Paths:
    return Paths(folder / "config.toml", folder / "state.json", folder / "ccfallback.jsonl")


def _run(paths: Paths, *arguments: str) -> str:
    """The output of a command on these files."""
    files = ("--config", paths.config, "--state", paths.state, "--log-file", paths.log)
    if not paths.config.exists():
        paths.config.touch(mode=0o600)
    environ = {**os.environ, "TZ": "UTC", "COLUMNS": str(_COLUMNS), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ccfallback", *map(str, files), *arguments],
        env=environ,
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=60,
    ).stdout


# -- The recording


def _after(seconds: float, script: Script) -> Script:
    async def wait(request: Received, connection: Connection) -> None:
        await asyncio.sleep(seconds)
        await script(request, connection)

    return wait


def record() -> None:
    """Record a session: an overloaded primary, a fallback that cools down, one that answers."""
    overloaded = scripted.error(529, "overloaded_error", "Overloaded")
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "user", "content": "Are you there?"}],
    }
    with (
        TemporaryDirectory() as folder,
        ScriptedUpstream([_after(0.41, overloaded)]) as first,
        ScriptedUpstream([scripted.reply("")]) as second,
        ScriptedUpstream([_after(0.87, scripted.reply("Still here."))]) as third,
    ):
        paths = _paths(Path(folder))
        paths.config.touch(mode=0o600)
        paths.config.write_text(
            f'[primary]\nbase_url = "{first.url}"\n'
            f'[[providers]]\nname = "deepseek"\nbase_url = "{second.url}"\napi_key = "key-of-a"\n'
            f'[[providers]]\nname = "spare"\nbase_url = "{third.url}"\napi_key = "key-of-b"\n'
            'model_mapping = { "*" = "big-model" }\n'
        )
        with BackgroundProxy(paths, log_level="info") as proxy:
            _run(paths, "breaker", "trip", "deepseek", "--for", "10m")
            with httpx.Client(trust_env=False, timeout=60) as client:
                client.post(f"{proxy.url}/v1/messages", json=body).raise_for_status()
            port = str(httpx.URL(proxy.url).port)
        SESSION.write_bytes(_moved(paths.log.read_bytes().replace(port.encode(), b"8787")))


def _moved(log: bytes) -> bytes:
    """A log with its times moved to `_BEGAN`, and without the process that wrote it."""
    records = [msgspec.json.decode(line) for line in log.splitlines()]
    shift = _BEGAN - datetime.fromisoformat(records[0]["timestamp"])
    milliseconds = shift // timedelta(milliseconds=1)
    for each in records:
        when = datetime.fromisoformat(each["timestamp"]) + shift
        each["timestamp"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name in ("cooldownUntil", "lastFailure", "since"):
            if isinstance(each["data"].get(name), int):
                each["data"][name] += milliseconds
        each["data"].pop("pid", None)
    return b"".join(msgspec.json.encode(each) + b"\n" for each in records)
