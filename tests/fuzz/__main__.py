"""Fuzz what takes bytes from elsewhere: `python -m tests.fuzz [--seconds N] [TARGET…]`.

With atheris (`pip install atheris`) the inputs are led by what they reach, without it they are
mutated by chance. An input that breaks a promise is printed, and the exit code is 1.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

SEEDS = {
    "sse": [b'\x05\x09\x20event: a\ndata: {"type":"ping"}\n\n: c\r\n\r\ndata: x\r\r'],
    "anthropic-stream": [
        b'\x10\x40\x90event: message_start\ndata: {"type":"message_start","message":{"id":"m",'
        b'"usage":{"input_tokens":1}}}\n\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\ndata: {"type":"content_block_delta",'
        b'"index":0,"delta":{"type":"text_delta","text":"a"}}\n\ndata: {"type":'
        b'"content_block_stop","index":0}\n\ndata: {"type":"message_delta","delta":'
        b'{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n'
    ],
    "openai-stream": [
        b'\x10\x40\x90data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":'
        b'"a","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}"}}]}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    ],
    "bedrock-stream": [
        b"\x30\x90\xf0"
        + bytes.fromhex(
            "000000900000004b552a60610b3a6576656e742d747970650700056368756e6b0d3a636f6e74656e742d74"
            "7970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e"
            "747b226279746573223a2265794a306558426c496a6f696257567a6332466e5a56397a64473977496e303d"
            "222c2270223a226162227dc07c0b72"
        )
        + bytes.fromhex(
            "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e674578"
            "63657074696f6e0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d"
            "6573736167652d74797065070009657863657074696f6e7b226d657373616765223a22546f6f206d616e79"
            "20746f6b656e73227dc81b1ec1"
        )
    ],
    "body": [
        b'{"model":"m","max_tokens":1,"system":[{"type":"text","text":"s"}],"messages":[{"role":'
        b'"user","content":[{"type":"tool_result","tool_use_id":"t","content":"\\ud83d"}]}],'
        b'"metadata":{"user_id":"u"},"tools":[{"name":"f","input_schema":{"type":"object"}}]}'
    ],
    "config": [
        b'[server]\nport = 1\n[primary]\nbase_url = "https://a"\n[[providers]]\nname = "b"\n'
        b'base_url = "https://b"\nheaders = { "A" = "b" }\n[[tokens]]\ntoken = "t"\n'
    ],
    "headers": [b"accept: a\nconnection: x, close\nx: y\nanthropic-beta: oauth-1,b\ncookie: c"],
    "state": [
        b'{"version":1,"providers":{"a":{"consecutiveFailures":3,"lastFailure":1,"cooldownUntil":'
        b'2,"reason":"529","models":{"m":{"consecutiveFailures":1,"lastSuccess":null}}}}}'
    ],
    "request": [
        b"\x05\x20\x40POST /v1/messages?a=b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n"
        b"\r\n{}GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"\x05\x30\x60POST /v1/%41 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2;x=y\r\n{}\r\n0\r\nx: y\r\n\r\n"
        b"HEAD * HTTP/1.0\r\nhost: b\r\nexpect: 100-continue\r\n\r\n",
    ],
    "response": [
        b"\x05\x20\x40HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"\x05\x20\x40HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
}

SEEDS["vertex-stream"] = SEEDS["anthropic-stream"]


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with a few bytes changed, taken out, put in, or repeated."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.randrange(1, 12))
        match chance.randrange(4):
            case 0:
                data[at:to] = chance.randbytes(to - at)
            case 1:
                del data[at:to]
            case 2:
                data[at:at] = chance.choice([b"\r\n", b"\n", b'"', b"{", b"]", b"\x00", b"9" * 25])
            case _:
                data[at:at] = bytes(data[at:to]) * chance.randrange(1, 4)
    return bytes(data)


def by_chance(name: str, seconds: float) -> None:
    """Mutate the seeds for so long."""
    from tests.fuzz.targets import TARGETS

    seed = random.randrange(1 << 32)
    chance, tried, until = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutated(chance, SEEDS[name])
        try:
            TARGETS[name](data)
        except Exception:
            print(f"{name}: broken by {data!r} (seed {seed})", file=sys.stderr)  # noqa: T201
            raise
        tried += 1
    print(f"{name}: {tried} inputs in {seconds:g} s, by chance")  # noqa: T201


def led(name: str, seconds: float) -> None:
    """Let atheris look for new ways through the code for so long; it ends the process."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["ccfallback"]):
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(SEEDS[name]):
            Path(corpus, str(number)).write_bytes(data)
        limits = [f"-max_total_time={seconds:g}", "-max_len=4096", "-print_final_stats=1"]
        atheris.Setup([name, corpus, *limits, f"-artifact_prefix={name}-"], TARGETS[name])
        atheris.Fuzz()


def main() -> int:
    """Fuzz each target in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--by-chance", action="store_true", help="without atheris")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(SEEDS))
    asked = parser.parse_args()
    if unknown := [name for name in asked.targets if name not in SEEDS]:
        parser.error(f"no target {unknown[0]}: choose from {', '.join(SEEDS)}")
    names = asked.targets or list(SEEDS)
    if asked.here:
        chance = asked.by_chance or find_spec("atheris") is None
        (by_chance if chance else led)(names[0], asked.seconds)
        return 0
    more = ["--by-chance"] if asked.by_chance else []
    command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(asked.seconds), *more]
    return max(min(1, abs(subprocess.call([*command, name]))) for name in names)


if __name__ == "__main__":
    sys.exit(main())
