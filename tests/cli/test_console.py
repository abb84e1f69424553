"""Data and messages, terminals and pipes."""

import io
import os
import select
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from rich.console import Console as Screen

from ccfallback.cli.console import Console, Styled, Table, draw_table

pty = pytest.importorskip("pty")


def printed_on_terminal(value: Table, environ: dict[str, str]) -> str:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as out:
        console = Console(io.StringIO(), out, io.StringIO(), environ)
        console.emit({}, lambda: value)
        shown = os.read(leader, 65536).decode()
    os.close(leader)
    return shown


GRID = Table([("a", Styled("bad", "red"))], ("name", "state"))


def test_a_terminal_gets_colour() -> None:
    assert "\x1b[31mbad" in printed_on_terminal(GRID, {"TERM": "xterm"})


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_turned_off(environ: dict[str, str]) -> None:
    assert "\x1b" not in printed_on_terminal(GRID, environ)


def test_an_empty_no_color_does_not_count() -> None:
    assert "\x1b" in printed_on_terminal(GRID, {"NO_COLOR": "", "TERM": "xterm"})


def test_a_pipe_gets_plain_aligned_lines(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {})
    console.emit({}, lambda: Table([("long name", Styled("bad", "red")), ("b", "ok")], ("n", "s")))
    assert capfd.readouterr().out == "n          s\nlong name  bad\nb          ok\n"


def test_json_is_one_document_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {}, as_json=True)
    console.emit({"a": "ü"}, lambda: "never asked")
    assert msgspec.json.decode(capfd.readouterr().out) == {"a": "ü"}


def test_a_failure_stays_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {})
    assert console.fail("two\nlines", "a hint") == 1
    assert capfd.readouterr().err == "ccfallback: two lines; a hint\n"


def test_on_a_terminal_no_word_of_a_failure_is_split() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as err:
        console = Console(io.StringIO(), io.StringIO(), err, {})
        console.fail("word " * 30, "`ccfallback config rollback` undoes it")
        shown = os.read(leader, 65536).decode()
    os.close(leader)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert {*shown.replace(";", "").split()} <= {
        *["ccfallback:", "word", "`ccfallback", "config", "rollback`", "undoes", "it"]
    }
    assert any("`ccfallback config rollback`" in line for line in lines)


def test_an_unreadable_file_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {})
    console.fail_unexpectedly(PermissionError(13, "Permission denied", "/some/file"))
    assert "/some/file: Permission denied" in capfd.readouterr().err


def test_numbers_are_aligned_to_the_right(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {})
    grid = Table([("a", "7"), ("b", "1000")], ("n", "tries"), right=frozenset({1}))
    console.emit({}, lambda: grid)
    assert capfd.readouterr().out == "n  tries\na      7\nb   1000\n"


def test_parts_of_a_page_are_separated_by_an_empty_line(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(sys.stdin, sys.stdout, sys.stderr, {})
    console.emit({}, lambda: ["above", Table([("a", "b")])])
    assert capfd.readouterr().out == "above\n\na  b\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "✓ ✗ · ▁█░ → é…"), ("cp1252", "+ x · .#. > é…"), ("ascii", "+ x - .#. > ?~")],
)
def test_marks_and_bars_are_told_apart_in_every_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    console = Console.for_process()
    console.emit({}, lambda: "✓ ✗ · ▁█░ → é…")
    console.say("✓ ✗ · ▁█░ → é…")
    for stream in (out, err):
        stream.seek(0)
        assert stream.read() == f"{shown}\n"


def test_a_blocked_thread_does_not_block_the_exit() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w", encoding="utf-8") as out:
        console = Console(io.StringIO(), out, io.StringIO(), {})
        held = threading.Thread(target=console.with_own_buffer().write, args=("x" * 1_000_000,))
        held.start()
        while select.select([], [writing], [], 0)[1]:
            held.join(0.001)
        ending = threading.Thread(target=console.flush, daemon=True)
        ending.start()
        ending.join(10)
        ended, still_held = not ending.is_alive(), held.is_alive()
        assert len(reader.read(1_000_000)) == 1_000_000
        held.join()
    assert (ended, still_held) == (True, True)


def test_a_stream_without_a_file_keeps_its_buffer() -> None:
    console = Console(io.StringIO(), io.StringIO(), io.StringIO(), {})
    assert console.with_own_buffer() is console


def test_a_table_of_short_cells_that_does_not_fit_wraps_the_longest() -> None:
    table = Table([("a" * 12, "b" * 20, "c" * 19)], ("one", "two", "three"))
    screen = io.StringIO()
    Screen(file=screen, width=50).print(draw_table(table, colour=False, columns=50))
    lines = screen.getvalue().splitlines()
    assert "".join(line[14:31].strip() for line in lines[1:]) == "b" * 20
    assert lines[1].endswith("c" * 19)


@pytest.mark.parametrize("width", [60, 44])
def test_a_narrow_terminal_cuts_no_cell(width: int) -> None:
    row = ("5-hour window", "█████████░  91 %", "in 3 d, Dec 02 20:43", "-")
    table = Table([row], ("window", "used", "resets", "forecast"))
    screen = io.StringIO()
    Screen(file=screen, width=width).print(draw_table(table, colour=False, columns=width))
    shown = screen.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    for cell in (*row, "window", "used", "resets", "forecast"):
        assert set(cell.split()) <= set(shown.split())


def test_a_suggested_command_is_one_that_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccfallback.cli.console import find_program

    program = tmp_path / "a b" / "ccfallback"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program() == f"'{program}'"
    console = Console(io.StringIO(), io.StringIO(), io.StringIO(), {}, program=find_program())
    assert console.add_file_options("try `ccfallback env`, ccfallback is here") == (
        f"try `'{program}' env`, ccfallback is here"
    )
    console.files = "--state s"
    assert console.add_file_options('eval "$(ccfallback env)"') == (
        f"eval \"$('{program}' --state s env)\""
    )
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_program() == "ccfallback"
    monkeypatch.setattr("sys.argv", ["/x/ccfallback/__main__.py"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program() == "ccfallback"
