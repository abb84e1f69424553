"""Judges the mutants of a module by its tests.

Tests and package are imported once. Then each mutant gets a fork of that process, in which it
takes the place of the original's code, and the tests that reach its lines run until one fails.
What a class or a signature says is fixed when a module is imported, so such a mutant gets a fork
from before the import, and all of the module's tests.
"""

import ast
import gc
import importlib.util
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final

import pytest

from tests.mutation.operators import Mutant, mutants

KILLED: Final = "killed"
SURVIVED: Final = "survived"
TIMED_OUT: Final = "timed out"
REACHED_BY_NONE: Final = "reached by no test"

_FAILED: Final = 1
_MISFIT: Final = 3
"""Exit codes: a test has failed; the mutant does not fit into the running module."""

MOST_MEMORY: Final = 4 * 1024**3
PATIENCE: Final = 5.0
"""Seconds that a test may take, besides ten times what it takes without a mutant."""


def name_of_module(path: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.with_suffix("").parts)


def pytest_arguments(tests: tuple[str, ...], folder: str) -> list[str]:
    """How pytest runs the tests of a module in this process."""
    plain = ["-q", "--capture=no", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    plain += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return [*plain, "-o", "addopts=--import-mode=importlib", f"--basetemp={folder}/t", *tests]


@dataclass
class Jobs:
    """Forks, so many at a time."""

    most: int
    running: dict[int, Callable[[int], None]] = field(default_factory=dict)

    def start(self, work: Callable[[], int], done: Callable[[int], None]) -> None:
        """Do `work` in a fork, and call `done` with the status that it ends with."""
        while len(self.running) >= self.most:
            self.wait()
        if pid := os.fork():
            self.running[pid] = done
            return
        code = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (1, 2):
                os.dup2(null, number)
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            code = work()
        finally:
            os._exit(code)

    def wait(self) -> None:
        """Wait until one is done."""
        pid, status = os.wait()
        done = self.running.pop(pid)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        done(status)

    def finish(self) -> None:
        """Wait until all are done."""
        while self.running:
            self.wait()


def verdict(status: int) -> str:
    """What a fork's end says about its mutant."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return TIMED_OUT
    return SURVIVED if status == 0 else KILLED


class Judge:
    """A plugin of pytest that runs the collected tests once for each mutant."""

    def __init__(self, path: Path, chosen: Callable[[Mutant], bool], jobs: int) -> None:
        self.name = name_of_module(path)
        self.file = str(path.resolve())
        self.tree = ast.parse(path.read_text(), self.file)
        self.mutants = [each for each in mutants(self.tree) if chosen(each)]
        self.verdicts: dict[int, str] = {}
        self.cold: list[int] = []
        """Mutants that need a new import."""
        self.unusable: list[str] = []
        """Tests that fail or are skipped without a mutant."""
        self._jobs = Jobs(jobs)
        self._lines: dict[str, frozenset[int]] = {}
        self._seconds: dict[str, float] = {}
        self._killers: dict[str | None, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Make properties quick and alike in all forks, before the tests are imported."""
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation",
            settings.get_profile("ccfallback"),
            max_examples=40,
            database=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge all mutants instead of running the tests."""
        # One folder for all forks; pytest has no public name for this.
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        self._measure(session)
        module = sys.modules[self.name]
        # What the collection of the tests froze is not listed.
        gc.unfreeze()
        functions = {
            (each.__code__.co_qualname, each.__code__.co_firstlineno): each
            for each in gc.get_objects()
            if isinstance(each, FunctionType) and each.__code__.co_filename == self.file
        }
        for number, mutant in enumerate(self.mutants):
            items = self._items(session, mutant)
            if mutant.function is None and not _is_assignment(mutant.statement, self.tree):
                self.cold.append(number)
                continue
            if not items:
                self.verdicts[number] = REACHED_BY_NONE
                continue
            self._start(number, mutant, items, module, functions)
        self._jobs.finish()
        # What an import has already read keeps the old value, so these are judged once more.
        self.cold += [
            number
            for number, mutant in enumerate(self.mutants)
            if mutant.function is None and self.verdicts.get(number) in (SURVIVED, REACHED_BY_NONE)
        ]
        return True

    def _start(
        self,
        number: int,
        mutant: Mutant,
        items: list[pytest.Item],
        module: ModuleType,
        functions: Mapping[tuple[str, int], FunctionType],
    ) -> None:
        read, write = os.pipe()

        def work() -> int:
            os.close(read)
            try:
                mutant.apply()
                if mutant.function is None:
                    _replace_values(mutant, self.tree, module)
                else:
                    _replace_code(mutant, self.tree, self.file, functions)
            except (SyntaxError, ValueError, KeyError):
                return _MISFIT
            return self._run(items, write)

        def done(status: int) -> None:
            killer = os.read(read, 4096).decode()
            os.close(read)
            self.verdicts[number] = verdict(status)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _MISFIT:
                del self.verdicts[number]
                self.cold.append(number)
            elif killer:
                killers = self._killers.setdefault(mutant.function, [])
                if killer in killers:
                    killers.remove(killer)
                killers.insert(0, killer)

        self._jobs.start(work, done)
        os.close(write)

    def _run(self, items: list[pytest.Item], write: int) -> int:
        """Run tests until one fails; `write` gets its name."""
        session = items[0].session
        for item, following in zip(items, [*items[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE + 10 * self._seconds[item.nodeid])
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os.write(write, item.nodeid.encode())
                return _FAILED
        return 0

    def _items(self, session: pytest.Session, mutant: Mutant) -> list[pytest.Item]:
        """The tests that reach a mutant: those first that killed others nearby, then the quick."""
        lines = self._lines_judging(mutant)
        items = [
            item
            for item in session.items
            if (seen := self._lines.get(item.nodeid)) and (not lines or not seen.isdisjoint(lines))
        ]
        killers = self._killers.get(mutant.function, [])
        rank = {name: place for place, name in enumerate(killers)}
        items.sort(key=lambda i: (rank.get(i.nodeid, len(rank)), self._seconds[i.nodeid]))
        return items

    def _lines_judging(self, mutant: Mutant) -> set[int]:
        """The lines that a test has to reach; none if every test may judge."""
        seen = frozenset().union(*self._lines.values()) if self._lines else frozenset()
        if mutant.function is None:
            names = {n.id for n in ast.walk(mutant.statement) if isinstance(n, ast.Name)}
            targets = {n for n in names if n in vars(sys.modules[self.name])}
            return {
                node.lineno
                for node in ast.walk(self.tree)
                if isinstance(node, ast.Name) and node.id in targets and node.lineno in seen
            }
        lines = set(mutant.lines)
        if lines.isdisjoint(seen):
            lines = set(range(mutant.statement.lineno, (mutant.statement.end_lineno or 0) + 1))
        return lines

    def _measure(self, session: pytest.Session) -> None:
        """Run all tests once, in a fork, to see what lines they reach and how long they take."""
        read, write = os.pipe()

        def work() -> int:
            with os.fdopen(write, "w") as out:
                for item, following in zip(session.items, [*session.items[1:], None], strict=True):
                    before, lines, begun = session.testsfailed, set[int](), perf_counter()
                    reports: list[pytest.TestReport] = []
                    with _reached(self.file, lines), _reports(item, reports):
                        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    good = session.testsfailed == before and _has_passed(reports)
                    numbers = " ".join(map(str, sorted(lines)))
                    seconds = perf_counter() - begun
                    out.write(f"{item.nodeid}\t{int(good)}\t{seconds}\t{numbers}\n")
            return 0

        self._jobs.start(work, lambda status: None)
        os.close(write)
        with os.fdopen(read) as lines:
            for line in lines:
                name, good, seconds, numbers = line.rstrip("\n").split("\t")
                self._seconds[name] = float(seconds)
                if good == "1":
                    self._lines[name] = frozenset(map(int, numbers.split()))
                else:
                    self.unusable.append(name)
        self._jobs.finish()


def _has_passed(reports: list[pytest.TestReport]) -> bool:
    return any(report.when == "call" and report.passed for report in reports)


class _reports:
    """Keeps the reports of one test."""

    def __init__(self, item: pytest.Item, reports: list[pytest.TestReport]) -> None:
        self._manager = item.config.pluginmanager
        self._reports = reports

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def __enter__(self) -> None:
        self._manager.register(self)

    def __exit__(self, *exception: object) -> None:
        self._manager.unregister(self)


class _reached:
    """Notes the lines of a file that run meanwhile, in all threads."""

    def __init__(self, file: str, lines: set[int]) -> None:
        self._file = file
        self._lines = lines

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename == self._file else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._lines.add(frame.f_lineno)
        return self._line

    def __enter__(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)
        threading.settrace(None)


def _is_assignment(statement: ast.stmt, tree: ast.Module) -> bool:
    return statement in tree.body and isinstance(statement, ast.Assign | ast.AnnAssign)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _replace_code(
    mutant: Mutant, tree: ast.Module, file: str, functions: Mapping[tuple[str, int], FunctionType]
) -> None:
    """Give the function that a mutant changes its new code; raises `KeyError` if none runs it."""
    found = False
    for code in _codes(compile(tree, file, "exec")):
        function = functions.get((code.co_qualname, code.co_firstlineno))
        if function is not None and code.co_qualname == mutant.function:
            function.__code__ = code
            found = True
    if not found:
        raise KeyError(mutant.function)


def _replace_values(mutant: Mutant, tree: ast.Module, module: ModuleType) -> None:
    """Assign a changed constant anew, and what is made of it, wherever it is imported."""
    changed: set[str] = set()
    for statement in tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        used = {each.id for each in ast.walk(statement.value) if isinstance(each, ast.Name)}
        if statement.lineno != mutant.statement.lineno and not used & changed:
            continue
        before = dict(vars(module))
        code = compile(ast.Module([statement], []), "mutant", "exec")
        exec(code, vars(module))
        for name, value in list(vars(module).items()):
            if before.get(name) is not value:
                changed.add(name)
                for other in list(sys.modules.values()):
                    if other is not module and vars(other).get(name, ...) is before.get(name):
                        setattr(other, name, value)


class MutantImporter(MetaPathFinder):
    """Imports a mutant in the place of its module."""

    def __init__(self, name: str, file: str, tree: ast.Module) -> None:
        self._name = name
        self._file = file
        self._tree = tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The mutant's own loader, for its name alone."""
        if name != self._name:
            return None
        tree = self._tree

        class Loader(SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                return compile(tree, self.path, "exec")

        loader = Loader(name, self._file)
        return importlib.util.spec_from_file_location(name, self._file, loader=loader)


def judge_cold(
    path: Path,
    tests: tuple[str, ...],
    folder: str,
    chosen: list[Mutant],
    tree: ast.Module,
    jobs: int,
) -> list[str]:
    """Judge mutants by a new import each; `tree` is the one that they change."""
    verdicts = [SURVIVED] * len(chosen)
    name, file = name_of_module(path), str(path.resolve())
    forks = Jobs(jobs)
    for number, mutant in enumerate(chosen):

        def work(number: int = number, mutant: Mutant = mutant) -> int:
            mutant.apply()
            sys.meta_path.insert(0, MutantImporter(name, file, tree))
            signal.setitimer(signal.ITIMER_REAL, 600)
            return int(pytest.main(["-x", *pytest_arguments(tests, f"{folder}/c{number}")]))

        def done(status: int, number: int = number) -> None:
            verdicts[number] = verdict(status)

        forks.start(work, done)
    forks.finish()
    return verdicts
