"""The architecture: what each package may import, which packages are pure, and no import cycles.

Also: no file of the project holds the markers of an unresolved merge.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from ccfallback.wire import FORMATS

pytestmark = pytest.mark.usefixtures("untraced")

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "ccfallback"

SHARED: Final = frozenset(
    {
        "addresses",
        "error_codes",
        "errors",
        "files",
        "paths",
        "printable",
        "processes",
        "quotes",
        "redact",
        "short_cache",
        "structs",
        "threads",
        "words",
    }
)
"""Single modules at the top of the package."""

EVERYTHING_BELOW: Final = frozenset(
    {
        "messages",
        "policy",
        "config",
        "credentials",
        "wire",
        "rectify",
        "http1",
        "state",
        "events",
        *SHARED,
    }
)

IMPURE: Final = frozenset(
    {"asyncio", "anyio", "time", "random", "os", "pathlib", "logging", "socket"}
)
HEAVY: Final = frozenset({"httpx", "starlette", "uvicorn"})


@dataclass(frozen=True)
class Row:
    """What one package may import and do."""

    ours: frozenset[str]
    """Packages or modules of ccfallback, besides the package itself."""
    others: frozenset[str] = frozenset({"msgspec"})
    """Installed packages."""
    pure: bool = False
    """No clock, chance, file, socket or output."""
    awaits: bool = False


TABLE: Final = {
    "messages": Row(frozenset(), pure=True),
    "policy": Row(
        frozenset(
            {
                *("messages", "config.model", "config.quirks"),
                *("addresses", "error_codes", "short_cache"),
            }
        ),
        pure=True,
    ),
    "config": Row(frozenset({"messages", *SHARED}), frozenset({"msgspec", "tomlkit"})),
    "credentials": Row(
        frozenset({"config.model", "config.checks", "wire.aws", "wire.credential", *SHARED}),
        frozenset({"msgspec", "httpx"}),
    ),
    "wire": Row(
        frozenset({"messages", "config.model", "config.quirks", "short_cache", "structs"}),
        pure=True,
    ),
    "rectify": Row(frozenset({"messages", "policy"}), pure=True),
    "http1": Row(frozenset(), frozenset({"httptools", "uvicorn"}), awaits=True),
    "state": Row(frozenset({"policy", *SHARED}), frozenset({"msgspec", "redis"})),
    "events": Row(frozenset({"config.model", *SHARED})),
    "server": Row(
        EVERYTHING_BELOW,
        frozenset(
            {"certifi", "msgspec", "prometheus_client", "uvloop", "httptools", "socksio", *HEAVY}
        ),
        awaits=True,
    ),
    "simulator": Row(
        EVERYTHING_BELOW | {"server"},
        frozenset({"msgspec", "uvloop", "httptools", *HEAVY}),
        awaits=True,
    ),
    "cli": Row(
        EVERYTHING_BELOW | {"server", "simulator"},
        frozenset({"msgspec", "typer", "rich", "tomlkit", "yaml", *HEAVY}),
        awaits=True,
    ),
}
"""The import table: a new package needs a row here."""


def module_name(path: Path) -> str:
    """The name of a module without the leading `ccfallback.`; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
IN_PACKAGES: Final = sorted(
    name for name in MODULES if name.partition(".")[0] not in SHARED and name
)
IN_PACKAGES.remove("__main__")


def package(module: str) -> str:
    return module.partition(".")[0]


@cache
def parse(module: str) -> ast.Module:
    path = MODULES[module]
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def import_statements(
    node: ast.AST, *, typing: bool, inside_functions: bool
) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node; those for the type checker and those in functions if wanted."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not typing:
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from import_statements(child, typing=typing, inside_functions=inside_functions)


def imports(
    module: str, *, typing: bool = False, inside_functions: bool = True
) -> Iterator[tuple[str, int]]:
    """The full name of each import with its line; `from a import b` is `a.b`."""
    tree = parse(module)
    for node in import_statements(tree, typing=typing, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        else:
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The modules of ccfallback that are loaded with a module."""
    found = set()
    for name, _ in imports(module, inside_functions=False):
        if name.startswith("ccfallback."):
            rest = name.removeprefix("ccfallback.")
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found & set(MODULES) - {module, ""}


def calls(module: str) -> set[str]:
    """The names of the functions that a module calls directly."""
    return {
        node.func.id
        for node in ast.walk(parse(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_every_package_has_a_row_in_the_import_table() -> None:
    assert {package(module) for module in IN_PACKAGES} == set(TABLE)


def test_a_package_imports_only_what_its_row_allows() -> None:
    for module in IN_PACKAGES:
        own = package(module)
        row = TABLE[own]
        allowed = row.ours | {own, "__version__"}
        for name, line in imports(module, typing=True):
            top, _, rest = name.partition(".")
            if top == "ccfallback":
                where = f"{module}:{line} imports {name}"
                assert any(rest == each or rest.startswith(f"{each}.") for each in allowed), where
        for name, line in imports(module):
            top, where = name.partition(".")[0], f"{module}:{line} imports {name}"
            if top in sys.stdlib_module_names:
                assert not (row.pure and top in IMPURE), where
                assert row.awaits or top != "asyncio", where
            elif top != "ccfallback":
                assert top in row.others, where


def test_no_modules_import_each_other() -> None:
    graph = {module: own_imports(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_only_packages_that_serve_await() -> None:
    for module in [m for m in IN_PACKAGES if not TABLE[package(m)].awaits]:
        kinds = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
        assert not [node for node in ast.walk(parse(module)) if isinstance(node, kinds)], module


def test_a_pure_package_does_no_input_or_output() -> None:
    for module in [m for m in IN_PACKAGES if TABLE[package(m)].pure]:
        assert not calls(module) & {"open", "print", "input", "exec", "eval", "__import__"}, module


def test_only_the_command_line_prints() -> None:
    for module in [m for m in IN_PACKAGES if package(m) != "cli"]:
        assert "print" not in calls(module), module


def test_a_command_without_network_starts_quickly() -> None:
    for module in [m for m in IN_PACKAGES if package(m) == "cli"]:
        names = {name.partition(".")[0] for name, _ in imports(module, inside_functions=False)}
        assert not names & HEAVY, module


def test_only_wire_compares_the_name_of_a_format() -> None:
    for module in [m for m in IN_PACKAGES if package(m) != "wire"]:
        if module == "cli.foreign":
            # The configurations of other programs use these words for their own formats.
            continue
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Compare | ast.MatchValue | ast.Subscript):
                words = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                assert not words & set(FORMATS), f"{module}:{node.lineno}: {ast.unparse(node)}"


MERGE_MARKER: Final = re.compile(rb"^(?:<{7}|>{7}|\|{7}|={7})(?: .*)?\r?$", re.MULTILINE)
NOT_OURS: Final = frozenset({"__pycache__", "build", "dist", "htmlcov"})
"""Folders that .gitignore names, besides hidden folders."""


def project_files() -> Iterator[Path]:
    """The files of the project: the check works without git, too."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name == ".ci" or not (name.startswith(".") or name in NOT_OURS)
        ]
        yield from (Path(folder, name) for name in files)


@pytest.mark.parametrize("line", ["<<<<<<< house", "=======", ">>>>>>> 1a2b", "||||||| base"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_merge_marker_is_found(line: str, end: str) -> None:
    assert MERGE_MARKER.search(f"text\n{line}{end}".encode())
    assert not MERGE_MARKER.search(f"text\n {line}{end}======== {line}{end}".encode())


def test_no_file_holds_merge_markers() -> None:
    files = set(project_files())
    assert {ROOT / "README.md", ROOT / ".ci" / "run", Path(__file__)} <= files
    marked = [path for path in files if MERGE_MARKER.search(path.read_bytes())]
    assert not marked, f"unresolved merge in {', '.join(map(str, marked))}"
