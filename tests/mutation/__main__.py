"""Change the code that decides in small ways, and see whether a test notices each change:
`python -m tests.mutation [--jobs N] [MODULE[:FIRST-LAST]…]`.

Exits 1 if fewer than 95 % of a module's mutants are noticed. Mutants that change nothing one could
see are listed in `tests/mutation/modules.py` with the reason, and do not count.
"""

import argparse
import ast
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio  # noqa: F401  # what follows is imported once for all forks
import httpx  # noqa: F401
import hypothesis  # noqa: F401
import msgspec
import pytest

from tests.mutation.judge import (
    KILLED,
    REACHED_BY_NONE,
    SURVIVED,
    TIMED_OUT,
    Judge,
    judge_cold,
    pytest_arguments,
)
from tests.mutation.modules import HARMLESS, MODULES
from tests.mutation.operators import Mutant, mutants

LEAST: float = 0.95
"""The share of a module's mutants that tests have to notice."""


def judge(
    name: str, chosen: Callable[[Mutant], bool], jobs: int
) -> tuple[list[tuple[Mutant, str]], list[str]]:
    """The verdict on each mutant of a module, and the tests that could not judge."""
    path = Path("ccfallback", f"{name}.py")
    tests = tuple(f"tests/{test}" for test in MODULES[name])
    tree = ast.parse(path.read_text(), str(path.resolve()))
    found = [each for each in mutants(tree) if chosen(each)]
    with TemporaryDirectory(prefix="ccfallback-mutation-") as folder:
        read, write = os.pipe()
        # A fork, so that this process stays without the package.
        if not (pid := os.fork()):
            os.close(read)
            try:
                os.dup2(os.open(os.devnull, os.O_RDWR), 1)
                judging = Judge(path, chosen, jobs)
                pytest.main(pytest_arguments(tests, folder), plugins=[judging])
                verdicts = {str(number): each for number, each in judging.verdicts.items()}
                result = msgspec.json.encode([verdicts, judging.cold, judging.unusable])
                with os.fdopen(write, "wb") as out:
                    out.write(result)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as result_file:
            verdicts, cold, unusable = msgspec.json.decode(result_file.read())
        os.waitpid(pid, 0)
        again = judge_cold(path, tests, folder, [found[n] for n in cold], tree, jobs)
    by_number = {int(number): each for number, each in verdicts.items()}
    by_number.update(zip(cold, again, strict=True))
    return [(mutant, by_number[n]) for n, mutant in enumerate(found)], unusable


def reason(name: str, mutant: Mutant) -> str | None:
    """Why no test can notice a mutant, if that is so."""
    change = f"{mutant.function or ''}: {mutant.change}"
    return next((why for m, c, why in HARMLESS if fnmatch(name, m) and re.search(c, change)), None)


def main() -> int:
    """Judge the chosen modules and print what survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--harmless", action="store_true", help="judge these mutants, too")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    arguments = parser.parse_args()
    failed = False
    for given in arguments.modules or MODULES:
        name, _, lines = given.partition(":")
        first, _, last = lines.partition("-")
        span = range(int(first or 1), int(last or first or 1_000_000) + 1)

        def chosen(mutant: Mutant, name: str = name, span: range = span) -> bool:
            wanted = arguments.harmless or reason(name, mutant) is None
            return mutant.line in span and wanted

        begun = perf_counter()
        results, unusable = judge(name, chosen, arguments.jobs)
        counts = Counter(verdict for _, verdict in results)
        noticed = counts[KILLED] + counts[TIMED_OUT]
        survived = len(results) - noticed
        failed |= noticed < LEAST * len(results)
        share = noticed / max(1, len(results))
        sys.stdout.write(
            f"{name}: {len(results)} mutants, {counts[KILLED]} killed, "
            f"{counts[TIMED_OUT]} timed out, {survived} survived: "
            f"{share:.1%}; {perf_counter() - begun:.0f} s\n"
        )
        for test in unusable:
            sys.stdout.write(f"  skipped or failing without a mutant: {test}\n")
        for mutant, verdict in results:
            if verdict in (SURVIVED, REACHED_BY_NONE):
                place = f"ccfallback/{name}.py:{mutant.line}"
                sys.stdout.write(
                    f"  {place} {mutant.function or ''}: {mutant.change} ({verdict})\n"
                )
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
