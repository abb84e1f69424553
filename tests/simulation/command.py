"""The command: runs seeds or a script, and prints what was found."""

import argparse
import gc
from pathlib import Path

from tests.simulation import history, invariants, scripts
from tests.simulation.seams import perf_counter, process_time


def main(arguments: list[str]) -> int:
    """Run the command; 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1-20", help="one seed, or a range such as 1-1000")
    parser.add_argument("--hours", type=float, default=8.0, help="simulated hours of each seed")
    parser.add_argument("--weather", default="mixed", choices=("mixed", "drift"))
    parser.add_argument("--replay", type=Path, help="run the script in this file")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    chosen = parser.parse_args(arguments)
    # What was imported is never collected.
    gc.freeze()
    first, _, last = chosen.seeds.partition("-")
    if chosen.replay:
        todo = [scripts.Script.read(chosen.replay)]
    else:
        todo = [
            scripts.make(seed, chosen.hours, chosen.weather)
            for seed in range(int(first), int(last or first) + 1)
        ]
    bad = 0
    began, cpu = perf_counter(), process_time()
    for script in todo:
        done = history.happen(script, invariants.check, [invariants.BreakerWatch()], keep=chosen.trace)
        if chosen.trace:
            print("\n".join(done.lines))
        outcomes = {}
        for turn in done.turns:
            outcomes[turn.outcome] = outcomes.get(turn.outcome, 0) + 1
        print(script.seed, done.digest, len(done.turns), outcomes, done.loop.steps)
        for violation in done.violations:
            print("   ", violation)
        bad += bool(done.violations)
    print(f"{perf_counter() - began:.2f} s, cpu {process_time() - cpu:.2f}")
    return 1 if bad else 0
