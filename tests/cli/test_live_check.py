"""`drill --live`: a real request to each provider, and what other commands say of it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ccfallback.cli.statusline_view import format_check
from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from ccfallback.state.checks import quick_summary
from tests.cli.conftest import Run

Start = Callable[..., ScriptedUpstream]
Configure = Callable[[str], None]

OFF = "[primary]\ndisabled = true\n"


def table(name: str, upstream: ScriptedUpstream, more: str = "") -> str:
    return (
        f'\n[[providers]]\nname = "{name}"\nbase_url = "{upstream.url}"\n'
        f'api_key = "sk-abcdefghijklmnop"\n{more}\n'
    )


def state(paths: Paths) -> dict[str, Any]:
    return dict(msgspec.json.decode(paths.state.read_bytes()))


@pytest.fixture
def good(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.reply("OK"))


@pytest.fixture
def bad(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.error(401, "authentication_error", "invalid x-api-key"))


def without_context_management(request: Received) -> Script:
    """An API that refuses a field which it does not know."""
    if "context_management" in request.json:
        message = "context_management: Extra inputs are not permitted"
        return scripted.error(400, "invalid_request_error", message)
    return scripted.reply("OK")


def test_each_provider_gets_one_request_in_the_shape_of_claude_code(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good))
    ran = ccf("drill", "--live", "--json")
    assert ran.code == 0
    (request,) = good.received
    body = request.json
    assert body["stream"] is True
    assert body["max_tokens"] <= 64
    assert body["thinking"]["type"] == "adaptive"
    assert len(body["tools"]) == 3
    assert [each["role"] for each in body["messages"]] == ["user", "system"]
    kinds = [block["type"] for block in body["messages"][0]["content"]]
    assert kinds == ["text", "image", "text"]
    headers = {name.lower(): value for name, value in request.headers}
    assert "effort-2025-11-24" in headers["anthropic-beta"]
    assert len(request.body) < 4000
    assert ran.json["ok"] is True
    (result,) = ran.json["results"]
    assert (result["provider"], result["checked"], result["ok"]) == ("good", True, True)
    assert 0 < ran.json["estimate"] < 0.01
    assert 0 < ran.json["cost"] < 0.01
    assert (ran.json["chain"]["ready"], ran.json["chain"]["of"]) == (1, 1)


def test_the_cost_is_said_before_and_after_and_in_the_ledger(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good))
    ran = ccf("drill", "--live")
    assert "one small request to good, for about $0.00" in ran.err
    assert "it has cost <$0.0001" in ran.err
    (row,) = ccf("spend", "--by", "provider", "--json").json["groups"]
    assert row["provider"] == "good"
    assert row["answers"] == 1


def test_what_a_provider_refuses_is_learned(
    ccf: Run, configure: Configure, upstream: Start, paths: Paths
) -> None:
    picky = upstream()
    picky.route = without_context_management
    configure(OFF + table("picky", picky))
    first = ccf("drill", "--live", "--json").json["results"][0]
    assert first["ok"] is True
    assert first["repairs"]
    assert state(paths)["providers"]["picky"]["learned"]
    sent = len(picky.received)
    again = ccf("drill", "--live", "--json").json["results"][0]
    assert again["repairs"] == first["repairs"]
    assert len(picky.received) == sent + 1


def test_other_commands_say_what_the_last_check_has_shown(
    ccf: Run, configure: Configure, good: ScriptedUpstream, bad: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good) + table("bad", bad))
    assert ccf("status", "--json").json["check"] is None
    assert not [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "chain"]
    ran = ccf("drill", "--live")
    assert ran.code == 1
    assert "✗ 401 authentication_error: invalid x-api-key" in ran.out
    assert "bad: give it another key" in ran.err
    check = ccf("status", "--json").json["check"]
    assert (check["ready"], check["of"], check["failed"]) == (1, 2, ["bad"])
    words = "chain checked just now: 1 of 2 ready; not ready: bad"
    assert words in ccf("status").out.replace("1 s ago", "just now")
    (found,) = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "chain"]
    assert found["severity"] == "warning"
    assert "1 of 2 ready" in found["message"]


def test_a_provider_that_is_another_one_now_has_not_been_checked(
    ccf: Run, configure: Configure, good: ScriptedUpstream, upstream: Start
) -> None:
    configure(OFF + table("good", good))
    ccf("drill", "--live")
    configure(OFF + table("good", upstream(scripted.reply("OK"))))
    assert ccf("status", "--json").json["check"] is None


def test_only_the_named_providers_are_asked(
    ccf: Run, configure: Configure, good: ScriptedUpstream, bad: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good) + table("bad", bad))
    ran = ccf("drill", "--live", "good", "--json")
    assert [each["provider"] for each in ran.json["results"]] == ["good"]
    assert not bad.received


@pytest.mark.parametrize(
    ("own", "environ", "options", "asked"),
    [
        ("", {"ANTHROPIC_API_KEY": "sk-ant-api-of-the-user"}, [], 0),
        ("", {"ANTHROPIC_API_KEY": "sk-ant-api-of-the-user"}, ["--primary"], 1),
        ("", {}, ["--primary"], 0),
        ('api_key = "sk-ant-oat-of-the-user"', {}, [], 0),
        ('api_key = "sk-ant-oat-of-the-user"', {}, ["--primary"], 1),
        ('api_key = "sk-ant-api-of-the-user"', {}, [], 1),
        ('api_key_env = "OWN"', {"OWN": "sk-ant-oat-of-the-user"}, [], 0),
    ],
)
def test_a_login_is_used_only_by_wish(
    own: str,
    environ: dict[str, str],
    options: list[str],
    asked: int,
    ccf: Run,
    configure: Configure,
    good: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    configure(f'[primary]\nbase_url = "{good.url}"\n{own}\n')
    ran = ccf("drill", "--live", *options, "--json")
    assert ran.code == 0
    assert len(good.received) == asked
    (result,) = ran.json["results"]
    assert result["checked"] is bool(asked)
    assert result["ok"] is bool(asked)


def test_a_stream_that_breaks_is_a_failure(ccf: Run, configure: Configure, upstream: Start) -> None:
    events = scripted.events_of(msgspec.json.encode(scripted.message("OK")))
    configure(OFF + table("torn", upstream(scripted.stream(events[:3], then=scripted.reset))))
    ran = ccf("drill", "--live", "--json")
    assert ran.code == 1
    assert "stream cut" in ran.json["results"][0]["message"]


def test_a_provider_of_the_openai_format_is_asked_in_its_own_words(
    ccf: Run, configure: Configure, upstream: Start
) -> None:
    other = upstream(OPENAI.reply("OK"))
    configure(OFF + table("other", other, 'format = "openai"'))
    ran = ccf("drill", "--live", "--json")
    assert ran.json["ok"] is True
    assert other.received[0].json["messages"][0]["role"] in ("system", "developer")


def test_a_provider_with_an_unknown_price_is_not_counted_as_free(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good, 'model_mapping = { "*" = "home-made" }'))
    ran = ccf("drill", "--live", "--json")
    assert ran.json["estimate"] is None
    assert ran.json["costUnknown"] == 1
    assert "at an unknown price" in ran.err
    assert "the price of 1 answer is unknown" in ran.err


def test_a_capped_provider_is_not_asked(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(OFF + table("good", good, "cap = { day = 0.0 }"))
    ran = ccf("drill", "--live", "--json")
    assert ran.code == 1
    assert not good.received
    assert "cap" in ran.json["results"][0]["message"]


def test_names_without_live_are_wrong_usage(ccf: Run, configure: Configure) -> None:
    configure("")
    assert ccf("drill", "spare").code == 2
    assert ccf("drill", "--primary").code == 2
    assert ccf("drill", "--live", "nobody").code == 1


def test_the_status_line_says_how_many_were_ready(
    ccf: Run, configure: Configure, good: ScriptedUpstream, bad: ScriptedUpstream, paths: Paths
) -> None:
    assert quick_summary(paths, ["good"]) is None
    configure(OFF + table("good", good) + table("bad", bad))
    ccf("drill", "--live")
    assert quick_summary(paths, ["other"]) is None
    for names, words, rank in (
        (["good", "other"], "1 of 1 ready", 4),
        (["good", "bad"], "1 of 2 ready", 2),
    ):
        summary = quick_summary(paths, names)
        assert summary is not None
        (part,) = format_check(summary, summary.at + 3 * 3600)
        assert (part.text, part.rank) == (f"chain checked 3 h ago: {words}", rank)
    assert format_check(None, 0.0) == []
    paths.state.write_text("{")
    assert quick_summary(paths, ["good"]) is None
