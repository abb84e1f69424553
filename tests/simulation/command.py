"""Run simulated histories, and print what they violate.

Each violation comes with its script, shrunk: keep it in a file for --replay.
"""

import argparse
import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.simulation import history, invariants, scripts
from tests.simulation.broken import LINES
from tests.simulation.history import History
from tests.simulation.scripts import Script
from tests.simulation.seams import perf_counter, process_time
from tests.simulation.shrinking import shrink

PROGRESS: Final = 250
"""Histories after which a long run says how far it is."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1-20", help="one seed, or a range such as 1-1000")
    parser.add_argument("--hours", type=float, default=8.0, help="simulated hours of each seed")
    parser.add_argument("--weather", default="mixed", choices=scripts.WEATHERS)
    parser.add_argument("--config", type=Path, help="JSON tables to add to each configuration")
    parser.add_argument("--replay", type=Path, nargs="+", help="run the scripts in these files")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--digests", action="store_true", help="print the hash of each trace")
    parser.add_argument("--no-shrink", action="store_true", help="print no scripts")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--break", dest="broken", choices=LINES, help="break a line on purpose")
    parser.add_argument(
        "--broken", dest="prove", nargs="*", choices=LINES, help="prove that broken lines are found"
    )
    chosen = parser.parse_args(arguments)
    if chosen.prove is not None:
        return prove(chosen.prove or LINES)
    # What was imported is never collected.
    gc.freeze()
    gc.set_threshold(50_000)
    began, cpu = perf_counter(), process_time()
    first, _, last = chosen.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    more = msgspec.json.decode(chosen.config.read_bytes()) if chosen.config else {}

    def make(part: Sequence[int]) -> Iterable[Script]:
        for seed in part:
            script = scripts.make(seed, chosen.hours, chosen.weather)
            script.config = {**more, **script.config}
            yield script

    def work(todo: Iterable[Script]) -> Counter[str]:
        return run(
            todo,
            trace=chosen.trace,
            digests=chosen.digests,
            shrinks=not (chosen.no_shrink or chosen.first or chosen.broken),
            first=chosen.first,
        )

    if chosen.replay:
        total = work(Script.read(path) for path in chosen.replay)
    elif chosen.jobs > 1:
        parts = [seeds[number :: chosen.jobs] for number in range(chosen.jobs)]
        total = _share(parts, lambda part: work(make(part)))
    else:
        total = work(make(seeds))
    _say(_summarize(total))
    _say(f"{perf_counter() - began:.0f} s, {process_time() - cpu:.0f} s of CPU in this process")
    return 1 if total["failed"] else 0


def run(
    todo: Iterable[Script],
    *,
    trace: bool = False,
    digests: bool = False,
    shrinks: bool = True,
    first: bool = False,
) -> Counter[str]:
    """Run scripts, and count what happened in all of them."""
    total: Counter[str] = Counter()
    for script in todo:
        done = happen(script, keep=trace)
        for line in done.lines:
            _say(line)
        if digests:
            _say(f"{script.seed} {done.digest}")
        total += _count(done)
        if done.violations:
            _say(f"seed {script.seed}, {script.hours:g} hours:")
            for violation in done.violations[:20]:
                _say(f"    {violation}")
            if shrinks:
                _say(_shrunk(script, done).write())
            if first:
                break
        if total["histories"] % PROGRESS == 0:
            _say(f"so far: {_summarize(total)}")
    return total


def prove(names: Iterable[str]) -> int:
    """Break each of these lines, and see its seed fail; 1 if one does not."""
    missed = 0
    for name in names:
        line = LINES[name]
        where = ["--seeds", str(line.seed), "--hours", f"{line.hours:g}", "--no-shrink"]
        where += ["--weather", line.weather]
        command = [sys.executable, "-m", "tests.simulation", *where]
        broken = subprocess.run([*command, "--break", name], capture_output=True, text=True)
        whole = subprocess.run(command, capture_output=True, text=True)
        is_found = f" {line.invariant}: " in broken.stdout and whole.returncode == 0
        missed += not is_found
        verdict = f"violates {line.invariant}" if is_found else "IS NOT FOUND"
        _say(f"{name}: seed {line.seed} of {line.hours:g} hours {verdict}")
    return 1 if missed else 0


def _summarize(total: Counter[str]) -> str:
    return (
        f"{total['histories']} histories of {total['hours'] / total['histories']:g} hours, "
        f"{total['requests']} requests of {total['turns']} turns, {total['faults']} faults met, "
        f"{total['lost']} turns lost where no provider was well, "
        f"{total['failed']} histories with violations"
    )


def happen(script: Script, *, keep: bool = False) -> History:
    """Run a script with everything watched."""
    return history.happen(script, invariants.check, [invariants.BreakerWatch()], keep=keep)


def _shrunk(script: Script, done: History) -> Script:
    names = {violation.partition(":")[0] for violation in done.violations}

    def fails(shorter: Script) -> bool:
        found = happen(shorter).violations
        return any(violation.partition(":")[0] in names for violation in found)

    return shrink(script, fails)


def _count(done: History) -> Counter[str]:
    faulty = sum(each.plan.usage is None for p in done.providers.values() for each in p.exchanges)
    return Counter(
        histories=1,
        hours=int(done.script.hours) or 1,
        turns=len(done.turns),
        requests=sum(len(turn.requests) for turn in done.turns),
        faults=faulty + len(done.network.failed) + len(done.troubles),
        lost=sum(turn.outcome == "lost" for turn in done.turns),
        failed=bool(done.violations),
    )


def _share(
    parts: Sequence[Sequence[int]], work: Callable[[Sequence[int]], Counter[str]]
) -> Counter[str]:
    """Work on the parts in processes of their own."""
    pipes = []
    for part in parts:
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, msgspec.json.encode(dict(work(part))))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    total: Counter[str] = Counter()
    for reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            total.update(msgspec.json.decode(pipe.read()))
        os.wait()
    return total


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
