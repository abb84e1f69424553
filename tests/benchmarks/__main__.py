"""`python -m tests.benchmarks`: measure, print, keep as JSON; `--compare A B` looks at two runs."""

import argparse
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import lag, report
from tests.benchmarks.bench import (
    Bench,
    Field,
    command_figures,
    growth_figures,
    latency_figures,
    memory_figures,
    stream_figures,
    throughput_figures,
)
from tests.benchmarks.client import WRK
from tests.benchmarks.failover import failover_figures
from tests.benchmarks.processes import NGINX

PARTS = ("latency", "throughput", "streams", "memory", "growth", "commands", "steps", "failover")


def machine() -> dict[str, object]:
    """What it was measured on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = f"{names[0]}, {len(names)} cores" if names else ""
    return {"cpu": model, "system": platform.platform(), "python": platform.python_version()}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each subject has its turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load, in each turn")
    parser.add_argument("--only", choices=PARTS, action="append", help="just this part")
    parser.add_argument("--runs", type=int, default=1, help="of it all; medians are printed")
    parser.add_argument("--peers", action="store_true", help="failovers of other proxies, too")
    parser.add_argument("--json", type=Path, help="keep the figures in a file")
    parser.add_argument("--compare", type=Path, nargs=2, help="two such files")
    chosen = parser.parse_args()
    if chosen.compare:
        sys.stdout.write(report.comparison(*chosen.compare) + "\n")
        return
    if NGINX is None:
        sys.stderr.write("no nginx here (Debian: apt-get install nginx-light): no ratios\n")
    if WRK is None:
        sys.stderr.write("no wrk here: the load is made in Python, and limits nginx\n")
    runs, felt = [], ""
    for number in range(chosen.runs):
        sys.stderr.write(f"run {number + 1} of {chosen.runs}\n")
        figures, text = measure(chosen)
        runs.append(figures)
        felt = felt or text
    figures = report.medians(runs)
    about = machine()
    sys.stdout.write(f"{report.table(figures)}\n\n{report.plot(figures)}\n\n{felt}\n")
    sys.stdout.write(f"\nFor README.md:\n\n{report.summary(figures, about, chosen.runs)}\n")
    sys.stdout.write(f"\nFor the help page:\n\n{report.definitions(figures)}\n")
    if chosen.json:
        report.write(chosen.json, figures, about)


def measure(chosen: argparse.Namespace) -> tuple[list[report.Figure], str]:
    """The figures of one run, and the table of failovers."""
    parts = chosen.only or PARTS
    figures: list[report.Figure] = []
    felt = ""
    with TemporaryDirectory(prefix="ccfallback-bench-") as folder, ExitStack() as stack:
        field = Field(Path(folder), stack)
        ours = field.ccfallback()
        subjects = [field.direct(), *([field.nginx()] if NGINX else []), ours]
        bench = Bench(subjects, chosen.rounds, chosen.seconds)

        def failovers() -> list[report.Figure]:
            nonlocal felt
            found, felt = failover_figures(Path(folder), chosen.rounds, peers=chosen.peers)
            return found

        measures: dict[str, Callable[[], list[report.Figure]]] = {
            "latency": lambda: latency_figures(bench),
            "throughput": lambda: throughput_figures(bench),
            "streams": lambda: stream_figures(bench),
            "memory": lambda: memory_figures(ours, field.fresh),
            "growth": lambda: growth_figures(ours),
            "commands": lambda: command_figures(Path(folder)),
            "steps": lambda: lag.step_figures(chosen.rounds),
            "failover": failovers,
        }
        for part, find in measures.items():
            if part in parts:
                sys.stderr.write(f"{part} …\n")
                figures += find()
    return figures, felt


if __name__ == "__main__":
    main()
