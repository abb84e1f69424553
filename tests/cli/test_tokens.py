"""Access tokens: made once, shown once, removed by any name they have."""

import re
from collections.abc import Callable

import httpx
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
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
    assert ccf("tokens", "list", "--json").json == {
        "tokens": [{"number": 1, "note": "laptop", "token": f"{token[:5]}…{token[-4:]}"}]
    }


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
