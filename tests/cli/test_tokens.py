"""Access tokens: made once, shown once, removed by any name they have."""

import re
import time
from collections.abc import Callable

import httpx
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.state import ledger
from ccfallback.state.ledger import Row
from tests.cli.conftest import Run
from tests.conftest import Chain

Configure = Callable[[str], None]

THREE = """\
[[tokens]]
token = "a-token-of-the-laptop"
note = "laptop"

[[tokens]]
token = "short"

[[tokens]]
token = "a-token-of-the-phone"
note = "phone"
"""


def left(ccf: Run) -> list[str]:
    return [token["note"] for token in ccf("tokens", "list", "--json").json["tokens"]]


def test_a_token_is_printed_once_and_kept(ccf: Run, paths: Paths) -> None:
    ran = ccf("tokens", "add", "--note", "laptop")
    assert re.fullmatch(r"ccf-[\w-]{43}\n", ran.out)
    token = ran.out.strip()
    assert token not in ran.err
    assert "from now on clients must send a token" in ran.err
    assert f'token = "{token}"' in paths.config.read_text()
    listed = ccf("tokens", "list")
    assert token not in listed.out
    masked = f"{token[:5]}…{token[-4:]}"
    assert ccf("tokens", "list", "--json").json["tokens"] == [
        {"number": 1, "note": "laptop", "token": masked, "label": "laptop", "caps": []}
    ]
    assert "left" not in listed.out


def test_each_token_is_another(ccf: Run) -> None:
    first = ccf("tokens", "add", "--json").json
    second = ccf("tokens", "add", "--json").json
    assert first["token"] != second["token"]
    assert (first["number"], second["number"]) == (1, 2)


def test_an_empty_list_says_what_that_means(ccf: Run) -> None:
    assert ccf("tokens", "list", "--json").json == {"tokens": []}
    assert "every client that reaches the proxy may use it" in ccf("tokens", "list").out


@pytest.mark.parametrize("which", ["laptop", "a-tok…ptop", "1", "a-token-of-the-laptop"])
def test_a_token_can_be_named_in_every_way(ccf: Run, configure: Configure, which: str) -> None:
    configure(THREE)
    ran = ccf("tokens", "remove", which, "--json")
    assert ran.json == {"removed": [{"note": "laptop", "token": "a-tok…ptop"}]}
    assert left(ccf) == ["", "phone"]


def test_a_token_may_come_from_stdin(ccf: Run, configure: Configure) -> None:
    configure(THREE)
    given = "a-token-of-the-phone\nshort\n"
    assert ccf("tokens", "remove", "-", given=given).code == 0
    assert left(ccf) == ["laptop"]
    assert ccf("tokens", "remove", "-").code == 1


def test_the_removal_of_the_last_token_is_announced(ccf: Run, configure: Configure) -> None:
    configure(THREE)
    assert "every client" not in ccf("tokens", "remove", "laptop", "phone").err
    assert "no tokens are left" in ccf("tokens", "remove", "1").err
    assert ccf("config", "rollback").code == 0
    assert left(ccf) == [""]


def test_a_note_that_is_taken_is_refused(ccf: Run, configure: Configure, paths: Paths) -> None:
    """The removal of the first of two would give what it has spent to the second."""
    configure(THREE)
    before = paths.config.read_text()
    ran = ccf("tokens", "add", "--note", " laptop ")
    assert (ran.code, ran.out) == (1, "")
    assert "already a token with the note laptop" in ran.err
    assert "choose another note" in ran.err
    assert paths.config.read_text() == before
    assert ccf("tokens", "add", "--note", "Laptop").code == 0
    assert ccf("tokens", "add").code == 0
    # A configuration that has two already stays valid.
    configure(THREE.replace('note = "phone"', 'note = "laptop"'))
    assert ccf("tokens", "add", "--note", "tablet").code == 0
    assert left(ccf) == ["laptop", "", "laptop", "tablet"]


def test_an_unknown_token_is_not_repeated(ccf: Run, configure: Configure) -> None:
    configure(THREE)
    ran = ccf("tokens", "remove", "a-token-of-the-lapto")
    assert ran.code == 1
    assert "lapto" not in ran.err
    assert "did you mean phone?" in ccf("tokens", "remove", "phon").err
    assert ccf("tokens", "remove").code == 2


def test_an_ambiguous_note_is_refused(ccf: Run, configure: Configure) -> None:
    configure('[[tokens]]\ntoken = "one"\nnote = "x"\n[[tokens]]\ntoken = "two"\nnote = "x"\n')
    ran = ccf("tokens", "remove", "x")
    assert ran.code == 1
    assert "1 or 2" in ran.err


def test_a_running_server_uses_the_change_at_once(ccf: Run, chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("hello"))

    def status(token: str) -> int:
        ask = {"model": "claude-x", "max_tokens": 10, "messages": []}
        headers = {"x-ccf-api-key": token}
        url = f"{running.url}/v1/messages"
        return httpx.post(url, json=ask, headers=headers, timeout=30).status_code

    token = ccf("tokens", "add").out.strip()
    assert (status("wrong"), status(token)) == (401, 200)
    ccf("tokens", "add", "--note", "other")
    assert ccf("tokens", "remove", "1").code == 0
    assert status(token) == 401


def test_the_last_token_of_an_open_server_is_not_removed(ccf: Run, configure: Configure) -> None:
    configure('[server]\nhost = "0.0.0.0"\n' + THREE)
    assert ccf("tokens", "remove", "1").code == 0
    ran = ccf("tokens", "remove", "1", "2")
    assert ran.code == 1
    assert "tokens add" in ran.err
    assert len(left(ccf)) == 2
    ccf("config", "set", "server.host", "127.0.0.1")
    assert ccf("tokens", "remove", "1", "2").code == 0


def test_a_token_gets_a_cap_as_a_provider_does(ccf: Run, paths: Paths) -> None:
    added = ccf(
        "tokens", "add", "--note", "phone", "--cap-day", "5", "--cap-month", "60.5", "--json"
    )
    assert added.json["cap"] == {"day": 5.0, "month": 60.5}
    ccf("tokens", "add", "--note", "laptop")
    spent = Row(at=time.time(), provider="spare", cost=1.5, token="phone")
    ledger.ledger_path(paths.state, ledger.month_of(spent.at)).write_bytes(ledger.encode([spent]))
    phone, laptop = ccf("tokens", "list", "--json").json["tokens"]
    assert laptop["caps"] == []
    left = [(each["period"], each["cap"], each["left"]) for each in phone["caps"]]
    assert left == [("day", 5.0, 3.5), ("month", 60.5, 59.0)]
    assert [each["provider"] for each in phone["caps"]] == [None, None]
    assert {each["token"] for each in phone["caps"]} == {"phone"}
    assert "$3.50 of $5.00 a day, $59.00 of $60.50 a month" in ccf("tokens", "list").out
    assert "token phone has cost $1.50 of $5.00 a day" in ccf("spend").out


@pytest.mark.parametrize("amount", ["-1", "2000000", "much"])
def test_a_cap_that_is_no_amount_adds_no_token(ccf: Run, amount: str) -> None:
    assert ccf("tokens", "add", "--cap-day", amount).code in (1, 2)
    assert ccf("tokens", "list", "--json").json == {"tokens": []}


def test_a_cap_can_be_changed_by_the_number_of_the_token(ccf: Run) -> None:
    ccf("tokens", "add", "--note", "phone", "--cap-day", "5")
    assert ccf("config", "set", "tokens.1.cap.day", "7.5").code == 0
    (phone,) = ccf("tokens", "list", "--json").json["tokens"]
    assert [each["cap"] for each in phone["caps"]] == [7.5]
    # An export and an import keep it.
    exported = ccf("config", "export").out
    assert ccf("config", "reset", "--yes").code == 0
    assert ccf("config", "import", "-", given=exported).code == 0
    assert [each["cap"] for each in ccf("tokens", "list", "--json").json["tokens"][0]["caps"]] == [
        7.5
    ]


@pytest.mark.parametrize("period", ["day", "month"])
def test_every_command_says_that_the_cap_of_a_token_is_reached(
    ccf: Run, paths: Paths, period: str
) -> None:
    ccf("tokens", "add", "--note", "phone", f"--cap-{period}", "1")
    spent = Row(at=time.time(), provider="spare", cost=1.5, token="phone")
    ledger.ledger_path(paths.state, ledger.month_of(spent.at)).write_bytes(ledger.encode([spent]))
    sentence = f"token phone has reached its cap of $1.00 a {period}: refused until"
    for command in ("spend", "status", "top"):
        assert sentence in ccf(command).out
    check = next(each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "caps")
    assert check["severity"] == "warning"
    assert f"config set tokens.N.cap.{period}" in check["remedy"]


def test_doctor_warns_of_a_cap_of_a_token_without_prices(ccf: Run, configure: Configure) -> None:
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "https://a.example"\napi_key = "k"\n'
        'model_mapping = { "*" = "deepseek/deepseek-v4" }\n'
    )
    ccf("tokens", "add", "--note", "phone", "--cap-day", "1")
    found = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "caps"]
    assert [each["severity"] for each in found] == ["warning"]
    assert "deepseek/deepseek-v4 at spare is unknown" in found[0]["message"]


def test_explain_says_that_it_was_the_cap_of_the_token(
    ccf: Run, chain: Callable[..., Chain]
) -> None:
    capped = THREE.replace('note = "phone"', 'note = "phone"\ncap = { day = 0 }')
    running = chain(scripted.reply("hello"), more=capped)
    refused = httpx.post(
        f"{running.url}/v1/messages",
        json={"model": "claude-opus-5", "max_tokens": 9, "messages": []},
        headers={"x-ccf-api-key": "a-token-of-the-phone", "x-api-key": "k"},
    )
    assert refused.status_code == 429
    running.proxy.stop()
    told = ccf("explain", refused.headers["ccr-request-id"]).out
    assert "skipped: the client's access token has reached its cap of money" in told


def test_requests_and_stats_and_spend_tell_tokens_apart(
    ccf: Run, chain: Callable[..., Chain]
) -> None:
    running = chain(scripted.reply("hello"), more=THREE)
    for token in ("a-token-of-the-laptop", "a-token-of-the-phone", "a-token-of-the-phone"):
        asked = httpx.post(
            f"{running.url}/v1/messages",
            json={"model": "claude-opus-5", "max_tokens": 9, "messages": []},
            headers={"x-ccf-api-key": token, "x-api-key": "k"},
        )
        assert asked.status_code == 200
    running.proxy.stop()
    found = ccf("requests", "--json").json["requests"]
    assert [each["token"] for each in found] == ["phone", "phone", "laptop"]
    (only,) = ccf("requests", "--token", "laptop", "--json").json["requests"]
    assert only["token"] == "laptop"
    assert "no request matches" in ccf("requests", "--token", "nobody").out
    counted = ccf("stats", "--json").json["accessTokens"]
    assert [(each["token"], each["requests"], each["answered"]) for each in counted] == [
        ("phone", 2, 2),
        ("laptop", 1, 1),
    ]
    assert counted[0]["tokens"]["output"] == 2 * counted[1]["tokens"]["output"] > 0
    assert counted[0]["cost"] == pytest.approx(2 * counted[1]["cost"])
    assert "requests by token" in ccf("stats").out
    spent = ccf("spend", "--by", "token", "--json").json["groups"]
    assert [(each["token"], each["answers"]) for each in spent] == [("phone", 2), ("laptop", 1)]
    assert "phone" in ccf("spend", "--by", "token").out
