"""Providers' keys, looked up when they are needed."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from ccfallback.config.model import KeySource, Provider
from ccfallback.credentials import KeyUnavailable
from ccfallback.credentials.fetch import Reply
from ccfallback.redact import Secret
from ccfallback.server import credentials
from ccfallback.server.credentials import RENEW_BEFORE, Keys
from ccfallback.wire.credential import Credential
from tests.credentials.machine import NOW, FakeMachine, json_reply


def provider(key: KeySource) -> Provider:
    return Provider(name="a", base_url="https://a.test", key=key)


def key_command(folder: Path) -> KeySource:
    """A command that prints another key each time it runs."""
    runs = folder / "runs"
    code = (
        f"open({str(runs)!r}, 'a').write('x'); print('key-' + str(len(open({str(runs)!r}).read())))"
    )
    return KeySource(command=(sys.executable, "-c", code))


def test_requests_at_the_same_time_share_one_run_of_a_key_command(tmp_path: Path) -> None:
    async def story() -> list[Credential | None]:
        keys, asked = Keys(), provider(key_command(tmp_path))
        first = await asyncio.gather(*(keys.get(asked) for _ in range(5)))
        assert await keys.renew(asked, first[0])
        return [*first, await keys.get(asked)]

    found = asyncio.run(story())
    assert found == [Credential("key-1")] * 5 + [Credential("key-2")]


def test_requests_share_the_failure_of_a_key_command(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit(1)"

    async def story() -> list[Credential | BaseException | None]:
        keys, asked = Keys(), provider(KeySource(command=(sys.executable, "-c", code)))
        together = asyncio.gather(*(keys.get(asked) for _ in range(5)), return_exceptions=True)
        return [*await together, *await asyncio.gather(keys.get(asked), return_exceptions=True)]

    found = asyncio.run(story())
    assert [type(each) for each in found] == [KeyUnavailable] * 6
    assert runs.read_text() == "x"


def test_an_environment_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        keys, asked = Keys(), provider(KeySource(env="SOME_KEY"))
        with pytest.raises(KeyUnavailable, match="SOME_KEY"):
            await keys.get(asked)
        monkeypatch.setenv("SOME_KEY", "now-set")
        assert await keys.get(asked) == Credential("now-set")

    asyncio.run(story())


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Login:
    """A Google login whose tokens are numbered; the token endpoint is the test's."""

    def __init__(self, machine: FakeMachine, lifetime: float = 3600) -> None:
        text = (
            '{"type": "authorized_user", "client_id": "c", "client_secret": "canary-1",'
            ' "refresh_token": "canary-2"}'
        )
        machine.write(".config/gcloud/application_default_credentials.json", text)
        machine.answer = self.answer
        self.lifetime = lifetime
        self.end: float | None = None
        """When all tokens end, if the source gives no new one before that."""
        self.count = 0
        self.status = 200
        self.is_open = threading.Event()
        self.is_open.set()
        self.clock = Clock()
        self.failures: list[str] = []
        self.keys = Keys(
            lambda: machine.fetch,
            environ=machine.environ,
            clock=self.clock,
            on_failure=lambda name, error: self.failures.append(f"{name}: {error}"),
        )

    def answer(self, *_: object) -> Reply:
        assert self.is_open.wait(20)
        self.count += 1
        lifetime = self.lifetime if self.end is None else self.end - self.clock.now
        return json_reply(
            {"access_token": f"token-{self.count}", "expires_in": lifetime}, self.status
        )

    async def get(self) -> str:
        found = await self.keys.get(GOOGLE)
        assert found is not None
        return found.key

    async def settle(self) -> None:
        """Wait for the look-ups that are under way."""
        flights = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*flights)


GOOGLE = Provider(name="g", base_url="https://g.test", auth="google")


@pytest.fixture
def login(tmp_path: Path) -> Login:
    home = tmp_path / "user"
    home.mkdir()
    return Login(FakeMachine(home))


def test_a_login_is_renewed_five_minutes_before_its_end_behind_the_requests(login: Login) -> None:
    async def story() -> None:
        assert [await login.get() for _ in range(3)] == ["token-1"] * 3
        login.clock.now += 3600 - RENEW_BEFORE - 1
        assert await login.get() == "token-1"
        await login.settle()
        assert login.count == 1
        login.clock.now += 1
        login.is_open.clear()
        # One request starts the renewal, and no request waits for it.
        assert [await login.get() for _ in range(5)] == ["token-1"] * 5
        login.is_open.set()
        await login.settle()
        assert login.count == 2
        assert await login.get() == "token-2"
        login.keys.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("lifetime", "first", "next_"),
    [
        (3600, 3300, 3300),
        (400, 100, 100),
        # Five minutes before its end, but not every two seconds if the source gives no longer ones.
        (302, 2, 60),
        (300, 60, 60),
        (100, 50, 50),
        (10, 5, 5),
        (2, 1, 1),
    ],
)
def test_a_login_that_ends_soon_is_renewed_in_time_and_not_all_the_time(
    login: Login, lifetime: float, first: float, next_: float
) -> None:
    login.lifetime = lifetime

    async def story() -> None:
        assert await login.get() == "token-1"
        for count, seconds in enumerate((first, next_, next_), 1):
            login.clock.now += seconds - 0.5
            assert await login.get() == f"token-{count}"
            await login.settle()
            assert login.count == count
            login.clock.now += 0.5
            # The request starts the renewal, and does not wait for it.
            assert await login.get() == f"token-{count}"
            await login.settle()
            assert await login.get() == f"token-{count + 1}"
        login.keys.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("is_fresh", "lifetime", "most"),
    [
        (True, 3, 400),
        (True, 30, 40),
        (True, 302, 11),
        (True, 900, 2),
        (False, 3, 600),
        (False, 30, 130),
        (False, 302, 27),
        (False, 900, 9),
    ],
)
def test_under_constant_load_few_renewals_happen_and_no_token_is_used_after_its_end(
    login: Login, is_fresh: bool, lifetime: float, most: int
) -> None:
    """For ten minutes. The source gives fresh tokens, or one until that has ended."""
    login.lifetime = lifetime

    async def story() -> None:
        ends: dict[str, float] = {}
        for _ in range(1200):
            now = login.clock.now
            if not is_fresh and (login.end is None or login.end <= now):
                login.end = now + lifetime
            token = await login.get()
            await login.settle()
            until = login.end or now + lifetime
            ends.setdefault(f"token-{login.count}", until)
            assert ends[token] > now
            login.clock.now += 0.5
        assert login.count <= most
        login.keys.close()

    asyncio.run(story())


def test_a_renewal_that_failed_is_tried_again_when_the_old_credential_ends(login: Login) -> None:
    login.lifetime = 30

    async def story() -> None:
        await login.get()
        login.clock.now += 15
        login.status = 500
        assert await login.get() == "token-1"
        await login.settle()
        login.status = 200
        login.clock.now += 14
        assert await login.get() == "token-1"
        await login.settle()
        assert login.count == 2
        login.clock.now += 1
        assert await login.get() == "token-3"
        login.keys.close()

    asyncio.run(story())


def test_requests_wait_together_for_a_login_that_has_ended_in_the_sleep_of_the_machine(
    login: Login,
) -> None:
    async def story() -> None:
        assert await login.get() == "token-1"
        login.clock.now += 100_000
        found = await asyncio.gather(*(login.get() for _ in range(20)))
        assert found == ["token-2"] * 20
        assert login.count == 2
        login.keys.close()

    asyncio.run(story())


def test_a_failed_renewal_is_reported_once_and_the_old_credential_is_used(login: Login) -> None:
    async def story() -> None:
        await login.get()
        login.status = 400
        for _ in range(3):
            login.clock.now = max(login.clock.now + 40, NOW + 3600 - RENEW_BEFORE)
            assert await login.get() == "token-1"
            await login.settle()
        assert login.count == 4
        (failure,) = login.failures
        assert failure.startswith("g: the Google login has expired")
        login.clock.now = NOW + 3601
        for _ in range(3):
            with pytest.raises(KeyUnavailable, match="gcloud auth application-default login"):
                await login.get()
        # One more look-up, whose failure the next requests share.
        assert login.count == 5
        login.clock.now += 40
        login.status = 200
        assert (await login.get()).startswith("token-")
        login.keys.close()

    asyncio.run(story())


def test_an_idle_login_is_not_renewed_again_and_again(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer renews a credential that was used; the next one only if it was used as well."""
    monkeypatch.setattr(credentials, "SHORTEST_PAUSE", 0.1)
    login.lifetime = 0.4

    async def story() -> None:
        await login.get()
        deadline = asyncio.get_running_loop().time() + 10
        while login.count < 2:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        await login.settle()
        await asyncio.sleep(0.6)
        assert login.count == 2
        login.keys.close()

    asyncio.run(story())


def test_refusals_at_the_same_time_renew_a_login_once(login: Login) -> None:
    async def story() -> None:
        refused = await login.keys.get(GOOGLE)
        assert await asyncio.gather(*(login.keys.renew(GOOGLE, refused) for _ in range(9))) == (
            [True] * 9
        )
        assert login.count == 2
        # A request that has shown the old one gets the new one, without another look-up.
        assert await login.keys.renew(GOOGLE, refused)
        # The new one is refused, too: the login is not at fault.
        assert not await login.keys.renew(GOOGLE, await login.keys.get(GOOGLE))
        assert login.count == 2
        login.keys.close()

    asyncio.run(story())


def test_a_refused_login_that_a_person_has_to_renew_is_no_longer_used(login: Login) -> None:
    async def story() -> None:
        refused = await login.keys.get(GOOGLE)
        login.status = 400
        assert await login.keys.renew(GOOGLE, refused), "the next attempt names the command"
        with pytest.raises(KeyUnavailable, match="application-default login"):
            await login.keys.get(GOOGLE)
        assert login.count == 2
        login.keys.close()

    asyncio.run(story())


def test_a_request_that_leaves_does_not_end_the_look_up_of_others(login: Login) -> None:
    async def story() -> None:
        login.is_open.clear()
        first, second = (asyncio.create_task(login.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        login.is_open.set()
        assert await second == "token-1"
        login.keys.close()

    asyncio.run(story())


def test_the_event_loop_does_not_wait_for_a_source(login: Login) -> None:
    async def story() -> None:
        login.is_open.clear()
        waiting = asyncio.create_task(login.get())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        login.is_open.set()
        assert await waiting == "token-1"
        login.keys.close()

    asyncio.run(story())


def test_a_key_of_the_configuration_is_never_renewed() -> None:
    async def story() -> None:
        keys, asked = Keys(), provider(KeySource(literal=Secret("k-1")))
        assert not await keys.renew(asked, await keys.get(asked))
        assert not await keys.renew(Provider(name="p", base_url="https://p.test"), None)

    asyncio.run(story())


def test_nothing_shows_a_secret(login: Login) -> None:
    async def story() -> None:
        found = await login.keys.get(GOOGLE)
        shown = repr([found, *vars(login.keys).values(), login.keys.describe(GOOGLE)])
        assert "token-1" not in shown
        assert "canary" not in shown
        login.keys.close()

    asyncio.run(story())
