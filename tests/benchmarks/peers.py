"""Other proxies that Claude Code can be pointed to, if they are installed.

`CCFALLBACK_PEERS` names a folder with them, else they are looked for on the path:
`python -m venv P; P/bin/pip install 'litellm[proxy]'`, and
`npm install --prefix P @musistudio/claude-code-router @portkey-ai/gateway`.
Each gets one primary and one fallback that speak Anthropic's format, no retries of its own, and the
timeout that ccfallback has before it has learned one. None may reach more than loopback.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.processes import PROXYS, Program, free_ports, start, wait_for

WAYS: Final = ("primary", "tls")
TIMEOUT: Final = 30
"""Seconds that a provider gets until its answer begins."""

START: Final = 90.0
"""Seconds that a peer may take to start; some import for long on a busy machine."""

GUARD: Final = """
const dns = require("dns");
const real = dns.lookup;
dns.lookup = (name, ...rest) => {
  if (name === "localhost" || name === "127.0.0.1") return real(name, ...rest);
  process.nextTick(rest.at(-1), Object.assign(new Error("loopback only"), { code: "ENOTFOUND" }));
};
"""
"""For Node.js, which ignores the variables for outgoing proxies."""


@dataclass(frozen=True)
class Served:
    """A proxy that runs."""

    name: str
    programs: Sequence[Program]
    ports: Mapping[str, int]
    """By the way: `primary`, or `tls` for a primary that is reached by TLS."""
    models: Mapping[str, str] = field(default_factory=dict)
    """What to ask for, by the way."""
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More headers, by the way."""
    forget: Callable[[], None] = lambda: None
    """Ends all cooldowns."""


@dataclass(frozen=True)
class Upstreams:
    """The ports of the primary, of one that does not end a TLS handshake, and of the fallback."""

    primary: int
    tls: int
    spare: int

    def urls(self) -> dict[str, str]:
        """By the names of the ways; `spare` for the fallback."""
        return {
            "primary": f"http://127.0.0.1:{self.primary}",
            "tls": f"https://127.0.0.1:{self.tls}",
            "spare": f"http://127.0.0.1:{self.spare}",
        }


def search_path() -> str:
    """Where programs are looked for."""
    folder = os.environ.get("CCFALLBACK_PEERS")
    own = [f"{folder}/bin", f"{folder}/node_modules/.bin"] if folder else []
    return os.pathsep.join([*own, os.environ.get("PATH", "")])


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(value))


def _start(
    name: str, folder: Path, command: Sequence[str], more: Mapping[str, str] | None = None
) -> Program:
    """Start a peer whose home is a folder of its own, and that can reach nothing but loopback."""
    (closed,) = free_ports(1)
    guard = folder / "guard.cjs"
    guard.write_text(GUARD)
    environ = {"PATH": search_path(), "HOME": str(folder), "NODE_OPTIONS": f"--require {guard}"}
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environ |= dict.fromkeys((variable, variable.lower()), f"http://127.0.0.1:{closed}")
    environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    binary = shutil.which(name, path=search_path())
    assert binary is not None
    return start([binary, *command], PROXYS, {**environ, **(more or {})})


def litellm(folder: Path, upstreams: Upstreams, port: int) -> Served:
    """LiteLLM's proxy; its configuration is YAML, and so JSON."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "anthropic/claude-x",
                "api_base": url,
                "api_key": "key",
                "timeout": TIMEOUT,
                "stream_timeout": TIMEOUT,
            },
        }
        for name, url in upstreams.urls().items()
    ]
    config = {
        "model_list": models,
        "router_settings": {
            "fallbacks": [{"primary": ["spare"]}, {"tls": ["spare"]}],
            "num_retries": 0,
        },
        "litellm_settings": {"telemetry": False},
    }
    _write_json(folder / "config.yaml", config)
    where = ("--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    environ = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    program = _start("litellm", folder, where, environ)
    return Served("litellm", [program], dict.fromkeys(WAYS, port), {way: way for way in WAYS})


def claude_code_router(folder: Path, upstreams: Upstreams, port: int) -> Served:
    """claude-code-router, whose providers are chosen by the model's name."""
    providers = [
        {
            "name": name,
            "api_base_url": f"{url}/v1/messages",
            "api_key": "key",
            "models": ["m"],
            "transformer": {"use": ["Anthropic"]},
        }
        for name, url in upstreams.urls().items()
    ]
    config = {
        "LOG": False,
        "NON_INTERACTIVE_MODE": True,
        "PORT": port,
        "API_TIMEOUT_MS": TIMEOUT * 1000,
        "Providers": providers,
        "Router": {"default": "primary,m"},
        "fallback": {"default": ["spare,m"]},
    }
    _write_json(folder / ".claude-code-router" / "config.json", config)
    program = _start("ccr", folder, ["start"])
    models = {way: f"{way},m" for way in WAYS}
    return Served("claude-code-router", [program], dict.fromkeys(WAYS, port), models)


def portkey(folder: Path, upstreams: Upstreams, port: int) -> Served:
    """Portkey's gateway, which is told the providers by a header."""
    urls = upstreams.urls()

    def config(way: str) -> Mapping[str, str]:
        targets = [
            {
                "provider": "anthropic",
                "api_key": "key",
                "custom_host": f"{urls[name]}/v1",
                "request_timeout": TIMEOUT * 1000,
            }
            for name in (way, "spare")
        ]
        value = {"strategy": {"mode": "fallback"}, "targets": targets}
        return {"x-portkey-config": msgspec.json.encode(value).decode()}

    program = _start("gateway", folder, [f"--port={port}", "--headless"])
    headers = {way: config(way) for way in WAYS}
    return Served("portkey", [program], dict.fromkeys(WAYS, port), headers=headers)


PEERS: Final[dict[str, Callable[[Path, Upstreams, int], Served]]] = {
    "litellm": litellm,
    "ccr": claude_code_router,
    "gateway": portkey,
}
"""By the names of their programs."""


def start_peers(folder: Path, upstreams: Upstreams) -> tuple[list[Served], list[str]]:
    """Start those that are installed; and what is to be said of the others."""
    found, notes = [], []
    for program, begin in PEERS.items():
        if shutil.which(program, path=search_path()) is None:
            notes.append(f"{program}: not installed")
            continue
        own = folder / program
        own.mkdir()
        (port,) = free_ports(1)
        served = begin(own, upstreams, port)
        try:
            wait_for(port, START)
        except OSError:
            served.programs[0].stop()
            notes.append(f"{served.name}: did not start")
        else:
            found.append(served)
    return found, notes
