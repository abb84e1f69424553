"""The real Claude Code, ten tasks in a row, and a primary that fails in another way each second.

Run by hand, where nothing but loopback can be reached, with the path of the binary:
`unshare -n sh -c 'ip link set lo up && python -m tests.soak.claude_tasks PATH/claude'`.
Every task needs three turns of tools; all ten have to be done, each tool run once.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import msgspec

from ccfallback.paths import Paths
from ccfallback.server.record import Record
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator import scripted
from ccfallback.simulator.faults import FAULTS, Ends, Place, ScriptedFault
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_format import ANTHROPIC, Block, ScriptedFormat

TASKS = 10
USABLE = [
    fault
    for fault in FAULTS
    if fault.place is Place.THERE
    and fault.ends is not Ends.WELL
    and not fault.fallback_only
    and fault.id != "pings-only"
]
"""What a primary that is there can do wrong; the one about a login is 401 to a key.

Pings alone are borne for five minutes, which a task here does not last; the drill has them.
"""

CONFIG = """
[breaker]
max_cooldown = 0.5
honor_reset = false
[timeouts]
first_byte = 1.5
non_streaming = 3
idle = 1.5
[primary]
base_url = "{primary}"
[[providers]]
name = "spare"
base_url = "{spare}"
"""


def steps(folder: Path, task: int) -> list[Block]:
    """The tool calls of a task: write a file, add a line to it, read it."""
    file = folder / f"task-{task}.txt"

    def call(number: int, name: str, **arguments: str) -> Block:
        id_ = f"toolu_task{task}_{number}"
        return {"type": "tool_use", "id": id_, "name": name, "input": arguments}

    return [
        call(1, "Write", file_path=str(file), content="one\n"),
        call(2, "Bash", command=f"sleep 1; echo two >> {file}", description="add a line"),
        call(3, "Read", file_path=str(file)),
    ]


def model(folder: Path) -> Callable[[Received], Script]:
    """A model that is well: the next step that has no result yet, or the last word."""

    def route(request: Received) -> Script:
        if "/v1/messages" not in request.target:
            return scripted.error(404, "not_found_error")
        if not request.json.get("tools"):
            return scripted.reply("A title")
        said = msgspec.json.encode(request.json["messages"]).decode()
        task = int(said.partition("This is task number ")[2].partition(".")[0])
        for step in steps(folder, task):
            if f'"tool_use_id":"{step["id"]}"' not in said:
                text = {"type": "text", "text": "The next step."}
                return scripted.reply([text, step], stop_reason="tool_use")
        return scripted.reply(f"Task {task} is done.")

    return route


def fresh_format(numbers: "count[int]") -> ScriptedFormat:
    """Calls with ids of their own: a client may run them, and must not take them for old ones."""
    number = next(numbers)
    content: list[Block] = [
        {"type": "text", "text": "Let me see first."},
        *(
            {
                "type": "tool_use",
                "id": f"toolu_torn_{number}_{each}",
                "name": "Bash",
                "input": {"command": "true", "description": "nothing"},
            }
            for each in (1, 2)
        ),
    ]
    return replace(ANTHROPIC, content=tuple(content))


def changing(order: list[ScriptedFault], met: Counter[str]) -> Callable[[Received], Script]:
    """Another fault each second."""
    began, numbers = monotonic(), count()

    def route(_: Received) -> Script:
        fault = order[int(monotonic() - began) % len(order)]
        met[fault.id] += 1
        torn = fault.id.endswith("-call")
        return fault.make(fresh_format(numbers) if torn else ANTHROPIC)

    return route


def run_claude(binary: str, url: str, folder: Path, task: int) -> dict[str, Any]:
    """Claude Code's own account of one task."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_API_KEY": "dummy-key-of-the-user",
        "ANTHROPIC_BASE_URL": url,
    }
    asked = f"This is task number {task}. Write the file, add a line, read it."
    done = subprocess.run(
        [binary, "-p", asked, "--output-format", "json", "--allowedTools", "Bash,Write,Read"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    try:
        told: dict[str, Any] = msgspec.json.decode(done.stdout)
    except msgspec.DecodeError:
        told = {"is_error": True, "result": done.stdout.decode() + done.stderr.decode()}
    return told


def main(binary: str, seed: int) -> int:
    """Run the tasks and tell how each went; 1 if one was not done."""
    say = sys.stdout.write
    order = random.Random(seed).sample(USABLE, len(USABLE))
    met: Counter[str] = Counter()
    records: list[Record] = []
    lost = 0
    with (
        TemporaryDirectory(prefix="ccfallback-soak-") as name,
        ScriptedUpstream(route=changing(order, met)) as primary,
        ScriptedUpstream(route=model(Path(name))) as spare,
    ):
        folder = Path(name)
        paths = Paths(
            folder / "c" / "config.toml", folder / "c" / "s.json", folder / "c" / "l.json"
        )
        paths.config.parent.mkdir()
        paths.config.write_text(CONFIG.format(primary=primary.url, spare=spare.url))
        with BackgroundProxy(paths, log_level="info", listeners=[records.append]) as proxy:
            for task in range(1, TASKS + 1):
                began, before = monotonic(), Counter(met)
                told = run_claude(binary, proxy.url, folder, task)
                file = folder / f"task-{task}.txt"
                held = file.read_text() if file.exists() else ""
                right = not told["is_error"] and held == "one\ntwo\n"
                right = right and f"Task {task} is done" in str(told["result"])
                lost += not right
                state = "done" if right else f"LOST: {told.get('result')!r}, file {held!r}"
                say(f"task {task}: {state} in {monotonic() - began:.1f} s")
                say(f" ({', '.join(met - before) or 'no fault'})\n")
                sys.stdout.flush()
    events = Counter(record.event for record in records)
    by = Counter(r.data.provider for r in records if r.event == "request.complete")
    say(f"{TASKS - lost} of {TASKS} done; {len(met)} different faults met in {met.total()} tries\n")
    say(f"requests {events['request.start']}, answered {dict(by)}, ")
    say(f"dropped {events['request.error']}, failures {events['provider.failure']}, ")
    say(f"timeouts {events['provider.timeout']}\n")
    say(f"met: {', '.join(f'{name} {times}' for name, times in met.most_common())}\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))
