"""What a server has learned of its providers' answers outlives it."""

from collections.abc import Callable

import httpx
import msgspec

from ccfallback.policy.latency import Digest
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.conftest import RunningProxy

CONFIG = '[[providers]]\nname = "spare"\nbase_url = "{}"\napi_key = "spare-key"\n'


def kept(proxy: RunningProxy) -> dict[str, Digest]:
    """What the state file holds."""
    state = msgspec.json.decode(proxy.paths.state.read_bytes())
    return {about: Digest.from_json(each) for about, each in state.get("latencies", {}).items()}


def ask(proxy: RunningProxy, model: str = "m") -> None:
    body = {"model": model, "max_tokens": 1, "stream": True, "messages": []}
    headers = {"x-ccf-debug-skip-anthropic": "1"}
    assert httpx.post(f"{proxy.url}/v1/messages", json=body, headers=headers).status_code == 200


def count(digest: Digest) -> int:
    return sum(buckets.total() for buckets in digest.times.values())


def test_a_restart_forgets_no_answers(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    config = CONFIG.format(upstream(scripted.reply("Hi")).url)
    for number in (2, 4):
        proxy = running(config)
        ask(proxy)
        ask(proxy)
        proxy.stop()
        (digest,) = kept(proxy).values()
        assert count(digest) == number


def test_a_state_with_a_broken_digest_is_used_without_it(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    config = CONFIG.format(upstream(scripted.reply("Hi")).url)
    proxy = running(config)
    ask(proxy)
    proxy.stop()
    state = msgspec.json.decode(proxy.paths.state.read_bytes())
    state["latencies"] |= {"broken": {"times": 7}, "odd": []}
    proxy.paths.state.write_bytes(msgspec.json.encode(state))
    again = running(config)
    ask(again)
    again.stop()
    state = msgspec.json.decode(proxy.paths.state.read_bytes())
    assert state["latencies"].pop("broken") == {"times": 7}
    assert state["latencies"].pop("odd") == []
    assert [count(Digest.from_json(each)) for each in state["latencies"].values()] == [2]
