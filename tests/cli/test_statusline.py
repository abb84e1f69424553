"""The line for Claude Code's status line: its parts first, then the whole program."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.statusline_view import (
    Health,
    Part,
    Window,
    cost_today,
    enabled_providers,
    format_line,
    format_windows,
    is_same_server,
    join,
    judge,
    last_request,
    model_name,
)
from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

NOW = 1_700_000_000.0
FAR = (NOW + 240) * 1000


def chain(*facts: dict[str, Any]) -> list[Health]:
    return enabled_providers({"providers": list(facts)})


@pytest.mark.parametrize(
    ("facts", "until", "serving", "cooling"),
    [
        ([{"name": "a", "available": True}, {"name": "b", "available": True}], {}, "a", []),
        (
            [{"name": "a", "cooldownUntil": FAR}, {"name": "b", "available": True}],
            {},
            "b",
            [("a", NOW + 240)],
        ),
        # Another model's trouble is not this one's.
        ([{"name": "a", "available": True}], {"b": NOW + 9}, "a", []),
        (
            [{"name": "a", "available": True}, {"name": "b", "available": True}],
            {"a": NOW + 9},
            "b",
            [("a", NOW + 9)],
        ),
        ([{"name": "a", "available": True}], {"a": NOW + 1e9}, "a", []),
        ([{"name": "a", "available": True}], {"a": NOW - 1}, "a", []),
        ([{"name": "a", "disabled": True, "cooldownUntil": FAR}], {}, None, []),
        ([{"name": "a", "cooldownUntil": FAR}], {}, None, [("a", NOW + 240)]),
        ([], {}, None, []),
    ],
)
def test_which_provider_serves_and_which_cool_down(
    facts: list[dict[str, Any]],
    until: dict[str, float],
    serving: str | None,
    cooling: list[tuple[str, float]],
) -> None:
    assert judge(chain(*facts), until, NOW) == (serving, cooling)


@pytest.mark.parametrize("providers", [None, 7, [7], [{"name": 1}], [{"name": "\x1b[2J"}]])
def test_a_page_of_another_program_has_no_chain(providers: Any) -> None:
    assert enabled_providers({"providers": providers}) == []


TIMES = st.none() | st.integers(0, 2**70) | st.floats(0, allow_infinity=False)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.text(), "available": st.booleans(), "cooldownUntil": TIMES}
        )
    ),
    st.dictionaries(st.text(), st.floats(allow_nan=False)),
)
def test_any_page_gives_one_line(facts: list[dict[str, Any]], until: dict[str, float]) -> None:
    line = join(format_line(*judge(chain(*facts), until, NOW), [], NOW))
    assert line.splitlines() == [line]
    assert len(line) <= 60


@pytest.mark.parametrize(
    ("serving", "cooling", "remarks", "begins", "ends"),
    [
        ("a", [], [], "ccfallback ✓ a", "a"),
        ("b", [("a", NOW + 240)], [], "ccfallback ! b · a back ", ""),
        ("b", [("x", NOW + 9000), ("a", NOW + 240)], [], "ccfallback ! b · a back ", ""),
        (
            None,
            [("a", NOW + 9)],
            [],
            "ccfallback ✗ all providers are cooling down · a back ",
            "",
        ),
        (None, [], [], "ccfallback ✗ no provider is enabled", "enabled"),
        ("a", [], ["this session goes to x"], "ccfallback ! a", " · this session goes to x"),
    ],
)
def test_the_line(
    serving: str | None,
    cooling: list[tuple[str, float]],
    remarks: list[str],
    begins: str,
    ends: str,
) -> None:
    line = join(format_line(serving, cooling, remarks, NOW))
    assert line.startswith(begins)
    assert line.endswith(ends)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (logbook.answered(NOW - 5, "a", 900.0), ""),
        (logbook.answered(NOW - 5, "b", 900.0), "last answer by b"),
        (logbook.answered(NOW - 3600, "b", 900.0), ""),
        (logbook.answered(NOW + 3600, "b", 900.0), ""),
        (logbook.answered(NOW - 5, "b\x1b[2J", 900.0), ""),
        ([logbook.unanswered(NOW - 5)], "last request failed: `ccfallback explain`"),
        ([logbook.unanswered(NOW - 5, 499)], ""),
        ([*logbook.answered(NOW - 9, "b", 9.0), *logbook.answered(NOW - 5, "a", 9.0)], ""),
        (
            [
                *logbook.answered(NOW - 9, "b", 9.0),
                logbook.line("request.error", NOW - 5, "debug", provider=None),
            ],
            "last answer by b",
        ),
        ([logbook.unanswered(NOW - 5), *[logbook.line("files.open", NOW)] * 300], ""),
        ([b'{"event":"request.complete","timestamp":7}\n'], ""),
        ([b'{"event":"request.complete","level":[],"data":7}\n', b"[]\n", b"{"], ""),
        ([], ""),
    ],
)
def test_the_last_request_is_mentioned_if_it_is_news(
    paths: Paths, lines: list[bytes], said: str
) -> None:
    logbook.write(paths.log, lines)
    assert last_request(paths, "a", NOW) == said


@pytest.mark.parametrize(
    ("given", "model"),
    [
        (
            b'{"model":{"id":"claude-opus-5-5[1m]","display_name":"Opus"},"cwd":"/"}',
            "claude-opus-5-5",
        ),
        (b'{"model":{"id":"m"}}', "m"),
        (b'{"model":"m"}', ""),
        (b'{"model":{"id":7}}', ""),
        (b"{", ""),
        (b"", ""),
        (b"\xff\x00", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_model_is_read_if_there_is_one(given: bytes, model: str) -> None:
    assert model_name(given) == model


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:8787", "http://127.0.0.1:8787", True),
        ("http://127.0.0.1:8787/", "http://127.0.0.1:8787", True),
        ("http://127.0.0.1:1", "http://127.0.0.1:8787", False),
        ("https://api.anthropic.com", "http://127.0.0.1:8787", False),
        ("", "http://127.0.0.1:80", False),
        ("http://x:port", "http://127.0.0.1:80", False),
    ],
)
def test_two_names_of_one_server(one: str, other: str, same: bool) -> None:
    assert is_same_server(one, other) is same


def test_down_says_what_to_do(ccf_process: Run, configure: Callable[[str], None]) -> None:
    configure("[server]\nport = 1\n")
    ran = ccf_process("statusline", given="{}", NO_COLOR="1")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "ccfallback ✗ down: `ccfallback serve -d` starts it\n"


@pytest.mark.usefixtures("traced_processes")
def test_up_says_which_provider_serves_this_model(
    ccf_process: Run,
    paths: Paths,
    running: Callable[[str], RunningProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = running('[[providers]]\nname = "one"\nbase_url = "http://127.0.0.1:9"\napi_key = "k"\n')
    known = {"models": {"m": {"consecutiveFailures": 3, "cooldownUntil": 4e12}}}
    given = '{"model":{"id":"m"}}'
    monkeypatch.setenv("NO_COLOR", "1")
    line = ccf_process("statusline", given=given, ANTHROPIC_BASE_URL=proxy.url).out
    assert line == "ccfallback ✓ anthropic-primary\n"
    known["models"]["m"]["cooldownUntil"] = (time() + 100) * 1000
    paths.state.write_bytes(
        msgspec.json.encode({"version": 1, "providers": {"anthropic-primary": known}})
    )
    line = ccf_process("statusline", given=given, ANTHROPIC_BASE_URL=proxy.url).out
    assert line.startswith("ccfallback ! one · anthropic-primary back ")
    line = ccf_process("statusline", given='{"model":{"id":"other"}}').out
    assert line == "ccfallback ! anthropic-primary · this session bypasses it\n"


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.parametrize("given", ["", "nonsense", "[" * 10_000, "x" * 3_000_000])
def test_any_input_gives_the_line_and_exit_code_0(
    ccf_process: Run, configure: Callable[[str], None], given: str
) -> None:
    configure("[server]\nport = 1\n")
    ran = ccf_process("statusline", given=given)
    assert (ran.code, ran.out.count("\n"), ran.err) == (0, 1, "")


def test_a_broken_config_is_not_a_failure(
    ccf_process: Run, configure: Callable[[str], None]
) -> None:
    configure("[server\n")
    assert ccf_process("statusline").code == 0


@pytest.mark.usefixtures("traced_processes")
def test_it_waits_for_neither_a_silent_pipe_nor_a_terminal(
    configure: Callable[[str], None], own_files: None
) -> None:
    configure("[server]\nport = 1\n")
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    reading, writing = os.pipe()
    for stdin in (follower, reading):
        ran = subprocess.run(
            [sys.executable, "-m", "ccfallback", "statusline"],
            stdin=stdin,
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert ran.stdout.startswith(b"ccfallback")
    for descriptor in (leader, follower, reading, writing):
        os.close(descriptor)


@pytest.mark.usefixtures("traced_processes")
def test_a_closed_standard_input_and_a_closed_reader_are_fine(own_files: None) -> None:
    command = f"{sys.executable} -m ccfallback statusline"
    for shell in (f"{command} <&-", f"{command} | true", f"{command} >&-"):
        ran = subprocess.run(shell, shell=True, capture_output=True, timeout=20, check=True)
        assert ran.stderr == b""


def test_the_whole_command_does_the_same(ccf: Run, configure: Callable[[str], None]) -> None:
    configure("[server]\nport = 1\n")
    ran = ccf("statusline", "--json")
    assert (ran.code, ran.json["running"], ran.json["serving"]) == (0, False, None)
    assert ran.json["text"].startswith("ccfallback ✗ down")


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([Part("✓ a"), Part("5h 57 % left", "", 3)], "ccfallback ✓ a · 5h 57 % left"),
        ([Part(f"✓ {'x' * 80}")], f"ccfallback ✓ {'x' * 46}…"),
        (
            # The money goes before the window, and that before the way back.
            [Part("! one"), Part(f"{'b' * 14} back 14:04", "", 2), Part("5h 3 % left", "", 3),
             Part("$12.34 today", "", 4)],
            f"ccfallback ! one · {'b' * 14} back 14:04 · 5h 3 % left",
        ),
        (
            [Part("! one"), Part(f"{'b' * 30} back 14:04", "", 2), Part("5h 3 % left", "", 3),
             Part("$1 today", "", 4)],
            f"ccfallback ! one · {'b' * 30} back 14:04",
        ),
        ([Part("! one"), Part("b" * 90, "", 1)], "ccfallback ! one"),
    ],
)  # fmt: skip
def test_what_matters_less_makes_room(parts: list[Part], line: str) -> None:
    assert join(parts) == line
    assert len(line) <= 60


def test_the_scarcest_window_comes_first() -> None:
    windows = [
        Window("7d", 0.12),
        Window("5h", 0.93, (NOW + 9000) * 1000, (NOW + 600) * 1000),
        Window("overage", 1.0),
    ]
    parts = format_windows(windows, NOW)
    assert [part.text.partition(",")[0] for part in parts] == ["5h 7 % left", "7d 88 % left"]
    assert ", full " in parts[0].text
    assert [part.colour for part in parts] == ["31", ""]


def test_the_cost_is_that_of_today(paths: Paths) -> None:
    assert cost_today(paths, NOW) is None
    now = time()
    rows: list[dict[str, Any]] = [
        {"at": now - 90_000, "cost": 7.0},
        {"at": now, "cost": 0.25},
        {"at": now, "cost": None},
        {"at": now, "cost": 1.0},
    ]
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    ledger = paths.state.with_name(f"spend-{datetime.fromtimestamp(now):%Y-%m}.jsonl")
    lines = [msgspec.json.encode({"provider": "one", **row}) for row in rows]
    ledger.write_bytes(b"torn\n" + b"\n".join(lines) + b"\n{")
    assert cost_today(paths, now) == 1.25


@pytest.mark.usefixtures("traced_processes")
def test_it_has_colour_for_claude_code_only(
    ccf_process: Run, running: Callable[[str], RunningProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", running("").url)
    assert ccf_process("statusline", given="{}").out == (
        "ccfallback \x1b[32m✓ anthropic-primary\x1b[0m\n"
    )
    assert ccf_process("statusline").out == "ccfallback ✓ anthropic-primary\n"
    assert "\x1b" not in ccf_process("statusline", given="{}", NO_COLOR="1").out


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(sys.platform == "win32", reason="a shell as POSIX has it")
@pytest.mark.parametrize(
    ("command", "before"),
    [
        ("cat", '{"cwd":"/x"} · '),
        ("printf 'one\\ntwo\\n\\n'", "one\ntwo · "),
        ("true", ""),
        ("echo no; exit 3", ""),
        ("/nowhere/at/all", ""),
        ("sleep 60 & sleep 60", ""),
    ],
)
def test_another_line_is_joined(
    ccf_process: Run, configure: Callable[[str], None], command: str, before: str
) -> None:
    configure("[server]\nport = 1\n")
    ran = ccf_process("statusline", "--then", command, given='{"cwd":"/x"}', NO_COLOR="1")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{before}ccfallback ✗ down: `ccfallback serve -d` starts it\n"
    if before:
        whole = ccf_process("--state", "s", "statusline", "--then", command, given='{"cwd":"/x"}')
        assert whole.out.startswith(before)


def test_install_prints_a_setting_that_works_from_anywhere(
    ccf: Run, home: Path, tmp_path: Path
) -> None:
    def command(*more: str) -> str:
        found = msgspec.json.decode(ccf("statusline", "--install", *more).out)
        assert found["statusLine"]["type"] == "command"
        return str(found["statusLine"]["command"])

    plain = f"{shlex.quote(sys.executable)} -m ccfallback statusline"
    assert command() == plain
    done = subprocess.run(
        command(), shell=True, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert done.stdout.startswith(b"ccfallback ")
    assert command("--then", "my line") == f"{plain} --then 'my line'"
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('{"statusLine": {"type": "command", "command": "npx ccusage"}}')
    assert command() == f"{plain} --then 'npx ccusage'"
    settings.write_text(msgspec.json.encode({"statusLine": {"command": plain}}).decode())
    assert command() == plain
    settings.write_text("[[[")
    assert command() == plain


LOADED = """
import os, sys
from ccfallback.cli.statusline_view import run
run(os.environ)
print(*sys.modules, file=sys.stderr)
"""


def test_it_imports_no_parser_and_no_large_library(
    running: Callable[[str], RunningProxy],
) -> None:
    running("")
    ran = subprocess.run(
        [sys.executable, "-c", LOADED], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert b"anthropic-primary" in ran.stdout
    loaded = set(ran.stderr.decode().split())
    assert not loaded & {"typer", "pydantic", "rich", "httpx", "http.client", "tomlkit", "tomllib"}
    assert "ccfallback.config.model" not in loaded


def test_it_takes_a_tenth_of_a_second_at_most(own_files: None) -> None:
    resource = pytest.importorskip("resource")

    def cost(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    least = min(cost("-m", "ccfallback", "statusline") for _ in range(5))
    # A machine that is busy with other things takes longer for an empty program as well.
    assert least < 0.1 or least < 8 * min(cost("-c", "pass") for _ in range(5))
