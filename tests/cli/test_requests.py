"""`requests`: which requests are listed, in what order, and how much of them fits."""

from collections.abc import Callable
from typing import Any

import pytest

from ccfallback.events.journal_reader import ended_requests
from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import NOW, Run
from tests.cli.test_status import CHAIN

AGO = {"old": 90_000, "cut": 7200, "sub": 600, "esc": 300, "spare": 60, "new": 10}


def request(name: str, provider: str | None, status: int = 200, **data: Any) -> list[bytes]:
    """The lines of a request that took a second."""
    at = NOW - AGO[name]
    start: dict[str, Any] = {"model": "claude-opus-5-5", "session": f"5e55{name}"}
    start |= {"class": data.pop("kind", "main"), "agent": data.pop("agent", None)}
    end: dict[str, Any] = {
        "provider": provider,
        "model": "claude-opus-5-5",
        "status": status,
        "latency": 1000.0,
    }
    event = "request.complete" if status == 200 else "request.error"
    return [
        logbook.line("request.start", at - 1, request=f"ccr-1_{name}", **start),
        logbook.line(event, at, "info", f"ccr-1_{name}", **end, **{"attempts": 1, **data}),
    ]


@pytest.fixture(autouse=True)
def log(paths: Paths, configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    configure(CHAIN.format(port=1))
    monkeypatch.setattr("ccfallback.cli.session.Session.now", lambda self: NOW)
    lines = [
        *request("old", "one"),
        *request("cut", None, 502, error="fallback_exhausted", attempts=3),
        *request("sub", "anthropic-primary", kind="subagent", agent="Explore"),
        *request("esc", "anthropic-primary", 499, error="client disconnected"),
        *request("spare", "one", attempts=2, cost=0.25, cache=0.9),
        *request("new", "anthropic-primary"),
    ]
    logbook.write(paths.log, lines)


def names(ccf: Run, *options: str) -> list[str]:
    ran = ccf("requests", "--json", *options)
    assert (ran.code, ran.err) == (0, "")
    return [each["requestId"].removeprefix("ccr-1_") for each in ran.json["requests"]]


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ((), "new spare esc sub cut old"),
        (("-n", "2"), "new spare"),
        (("--since", "1h"), "new spare esc sub"),
        (("--since", "0s"), ""),
        (("--provider", "one"), "spare old"),
        (("--provider", "one", "--since", "1d"), "spare"),
        (("--status", "success"), "new spare sub old"),
        (("--status", "error"), "cut"),
        (("--status", "stopped"), "esc"),
        (("--status", "failover"), "spare cut"),
        (("--status", "502"), "cut"),
        (("--status", "4XX"), "esc"),
        (("--class", "subagent"), "sub"),
        (("--class", "main", "-n", "3"), "new spare esc"),
        (("--session", "5e55cu"), "cut"),
        (("--session", "5e55", "--status", "error"), "cut"),
        (("--session", "nobody"), ""),
    ],
)
def test_filters(ccf: Run, options: tuple[str, ...], listed: str) -> None:
    assert names(ccf, *options) == listed.split()


def test_a_request_has_its_session_class_and_cost(ccf: Run) -> None:
    found = {each["requestId"]: each for each in ccf("requests", "--json").json["requests"]}
    spare, sub = found["ccr-1_spare"], found["ccr-1_sub"]
    assert (spare["session"], spare["class"], spare["agent"]) == ("5e55spare", "main", None)
    assert (spare["cost"], spare["cache"], spare["provider"]) == (0.25, 0.9, "one")
    assert (sub["class"], sub["agent"]) == ("subagent", "Explore")


def test_the_id_of_each_row_is_one_that_explain_takes(ccf: Run) -> None:
    rows = ccf("requests").out.splitlines()[1:]
    assert len(rows) == 6
    for row, name in zip(rows, ["new", "spare", "esc", "sub", "cut", "old"], strict=True):
        words = row.split()
        shown = words[2] if name == "old" else words[1]
        assert shown.endswith(name)
        assert f"Request ccr-1_{name}\n" in ccf("explain", shown).out


@pytest.mark.parametrize("columns", [50, 80, 140])
def test_the_screen(
    columns: int, ccf_screen: Callable[..., str], golden: Callable[[str, str], None]
) -> None:
    screen = ccf_screen("requests", columns=columns)
    assert max(map(len, screen.splitlines())) <= columns
    golden(f"requests-{columns}.txt", screen)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--provider", "onw"), 1, "did you mean one?"),
        (("--status", "eror"), 2, "did you mean error?"),
        (("--status", "600"), 2, "529 or 5xx"),
        (("--class", "subagnt"), 2, "did you mean subagent?"),
        (("-n", "0"), 2, "'-n'"),
        (("--since", "soon"), 2, "not a duration"),
    ],
)
def test_what_can_not_be_is_an_error(
    ccf: Run, options: tuple[str, ...], code: int, words: str
) -> None:
    ran = ccf("requests", *options)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


def test_a_provider_that_has_left_the_chain_is_still_found(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure("")
    assert names(ccf, "--provider", "one") == ["spare", "old"]


def test_an_empty_log_is_said(ccf: Run, paths: Paths) -> None:
    paths.log.unlink()
    assert ccf("requests").out == "no request is in the log yet\n"
    assert ccf("requests", "--status", "error").out == "no request matches\n"
    assert ccf("requests", "--json").json == {"requests": []}


def test_starts_are_found_for_their_own_ends(paths: Paths) -> None:
    """Requests that overlap, share an id, or have lost their start."""

    def line(kind: str, at: float, name: str, **data: Any) -> bytes:
        return logbook.line(f"request.{kind}", NOW + at, request=name, **data)

    lines = [
        line("start", 0, "long", session="1"),
        line("start", 1, "same", session="2"),
        line("complete", 2, "same", status=200),
        line("complete", 3, "lost", status=200),
        line("start", 4, "same", session="3"),
        line("complete", 5, "same", status=201),
        line("complete", 6, "long", status=200),
    ]
    logbook.write(paths.log, lines)
    found = [(it.end.request_id, it.start and it.start.session) for it in ended_requests(paths.log)]
    assert found == [("long", "1"), ("same", "3"), ("lost", None), ("same", "2")]


def test_tail_refuses_names_that_nothing_has(ccf: Run) -> None:
    ran = ccf("logs", "tail", "--provider", "onw")
    assert (ran.code, "did you mean one?" in ran.err) == (1, True)
    ran = ccf("logs", "tail", "--request", "nosuch")
    assert (ran.code, "no request nosuch" in ran.err) == (1, True)
    assert ccf("logs", "tail", "--provider", "two").code == 0


def test_any_number_of_requests_may_be_wanted(ccf: Run) -> None:
    assert ccf("requests", "-n", "9" * 20).out == ccf("requests", "-n", "99").out
