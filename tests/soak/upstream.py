"""A provider in its own process that echoes a nonce, and fails at a given rate."""

import random
import re
import sys

from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI

NONCE = re.compile(rb"nonce-[0-9a-f]{32}")


def nonce_of(body: bytes) -> str:
    """The nonce that was asked for last."""
    found: list[bytes] = NONCE.findall(body)
    return found[-1].decode()


def good(kind: str, text: str) -> Script:
    """An answer that says it."""
    return OPENAI.reply(text) if kind == "openai" else scripted.reply(text)


def pieces(kind: str, text: str) -> list[bytes]:
    """The events that stream it."""
    if kind == "openai":
        return scripted_openai.chunks_of([{"type": "text", "text": text}])
    import msgspec

    return scripted.events_of(msgspec.json.encode(scripted.message(text)))


def choose(kind: str, request: Received, rate: float, chance: random.Random) -> Script:
    """What becomes of a request: a fault, so often; else the answer."""
    text = nonce_of(request.body)
    answer = good(kind, f"wrong if cut: {text}")
    if chance.random() >= rate:
        return answer
    events = pieces(kind, f"wrong if cut: {text}")
    head = {"content-type": scripted.EVENTS, "transfer-encoding": "chunked"}
    cut = scripted.stream(events[: len(events) // 2], scripted.reset)
    faults: list[Script] = [
        scripted.error(500, "api_error"),
        scripted.error(529, "overloaded_error"),
        scripted.error(429, "rate_limit_error", headers={"retry-after": "1"}),
        scripted.html(200),
        scripted.html(502),
        scripted.answer(200, b""),
        scripted.answer(200, b'{"half'),
        scripted.reset,
        scripted.close,
        scripted.stream([], headers=head),
        scripted.stream(events[:1], scripted.reset),
        cut,
        scripted.stream(events[: len(events) // 2]),
    ]
    return chance.choice(faults)


def main(kind: str, rate: float, seed: int) -> None:
    """Serve until the standard input ends."""
    chance = random.Random(seed)
    upstream = ScriptedUpstream(route=lambda request: choose(kind, request, rate, chance))

    class Forgetful(list[Received]):
        def append(self, _request: Received) -> None:
            """It is not to grow."""

    upstream.received = Forgetful()
    with upstream:
        sys.stdout.write(f"{upstream.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
