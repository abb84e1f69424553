"""What translating to and from the OpenAI format costs: `python -m tests.benchmarks.translate`.

Medians of repeated runs, in microseconds of this machine's time.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.wire.openai import OPENAI

ROUNDS = 200
CASES = Path(__file__).parent.parent / "wire/openai/cases/request"
PROVIDER = Provider(name="bench", base_url="https://bench.invalid", format="openai")


def measured(work: Callable[[], object]) -> float:
    """The median of many runs, in microseconds."""
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times) * 1e6


def long_request() -> bytes:
    """A real first turn, then tool steps until it is 100 kB long."""
    asked: dict[str, Any] = msgspec.json.decode((CASES / "first_turn.json").read_bytes())["asked"]
    messages = [asked["messages"][0]]
    number = 0
    while len(msgspec.json.encode({**asked, "messages": messages})) < 100_000:
        number += 1
        call = {
            "type": "tool_use",
            "id": f"toolu_{number}",
            "name": "Bash",
            "input": {"command": "ls"},
        }
        result = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{number}",
            "content": "line\n" * 300,
        }
        messages.append({"role": "assistant", "content": [call]})
        messages.append({"role": "user", "content": [result]})
    return msgspec.json.encode({**asked, "messages": messages})


def stream(deltas: int) -> list[bytes]:
    """A stream of so many pieces of text."""
    pieces = [{"choices": [{"index": 0, "delta": {"content": f"word{n} "}}]} for n in range(deltas)]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = [b"data: " + msgspec.json.encode(each) + b"\n\n" for each in [*pieces, end]]
    return [*events, b"data: [DONE]\n\n"]


def main() -> None:
    """Measure, and print a line for each."""
    raw = long_request()
    body = Body.parse(raw)
    events = stream(200)

    def translate_request() -> bytes:
        return OPENAI.request(Body.parse(raw), PROVIDER).raw

    def translate_stream() -> bytes:
        translator = OPENAI.stream(body, PROVIDER)
        return b"".join(map(translator.feed, events)) + translator.finish()

    lines = [
        (f"request of {len(raw) / 1000:.0f} kB", measured(translate_request)),
        ("stream of 200 events, one a read", measured(translate_stream)),
    ]
    for what, microseconds in lines:
        sys.stdout.write(f"{what:<36} {microseconds:8.0f} µs\n")


if __name__ == "__main__":
    main()
