"""`ccfallback help json` explains every key that the commands print."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.cli.help import topics
from ccfallback.config.model import SECTIONS, Provider, Token
from ccfallback.config.options import options
from ccfallback.simulator import drill, scripted
from tests.cli.conftest import Run
from tests.conftest import Chain
from tests.simulator import BY_ID

COMMANDS = """
status
top
quota
stats
spend
explain --last
providers list
providers show fallback1
providers presets
providers test
providers set fallback1 --retry 1
providers disable fallback1
providers enable fallback1
providers move fallback1 --to 1
providers forget fallback1
breaker status
breaker trip fallback1 --for 1m
breaker reset --all
tokens add --note laptop
tokens list
config path
config get server.port
config set server.max_body_bytes 2000
config validate
config history
config export
config rollback
doctor
env
statusline
logs tail
drill
service install --print
providers remove fallback1
config reset
"""

NAMES = {"models", "reasons", "headers", "model_mapping", "data", "quirks"}
"""Keys whose value is a table by the name of something, such as a model."""


def keys(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                if key not in NAMES:
                    yield from keys(inner)
        case list():
            for inner in value:
                yield from keys(inner)


def explained() -> set[str]:
    text = topics.source("json")
    terms = re.findall(r"^([a-zA-Z_, ]+)\n: ", text, re.MULTILINE)
    words = {word for term in terms for word in term.split(", ")}
    own = {row.key for row in options(*SECTIONS.values(), Provider, Token, deep=True)}
    groups = {"aws", "google", "cap", "prices", "timeouts", *SECTIONS, "tokens"}
    return words | set(re.findall(r"`(\w+)`", text)) | own | groups


def test_every_key_that_a_command_prints_is_explained(
    ccf: Run, chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The drill prints the same keys for each fault.
    monkeypatch.setattr(drill, "FAULTS", [BY_ID["500"], BY_ID["refused"]])
    started = chain(scripted.error(529, "overloaded_error", "Overloaded"), scripted.reply("well"))
    body = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{started.url}/v1/messages", json=body, trust_env=False)
    assert answer.status_code == 200
    known = explained()
    printed: set[str] = set()
    unknown: set[tuple[str, str]] = set()
    for line in COMMANDS.strip().splitlines():
        ran = ccf(*line.split(), "--json")
        found = set(keys(msgspec.json.decode(ran.out)))
        assert found, line
        assert found - {"error"}, (line, ran.out)
        variables = {key for key in found if key.isupper()}
        unknown |= {(line, key) for key in found - known - variables}
        printed |= found
    assert unknown == set()
    assert {"requestId", "mapped_to", "client_sees"} <= printed
