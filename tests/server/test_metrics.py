"""`/metrics` of the real server, read by prometheus-client's own parser."""

import subprocess
import sys
from collections.abc import Callable

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ccfallback.events.records import (
    ProviderAttempt,
    ProviderSuccess,
    RequestComplete,
    RequestStart,
)
from ccfallback.paths import Paths
from ccfallback.server.metrics import COUNTERS, GAUGES, HISTOGRAMS
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.conftest import Chain, RunningProxy

MESSAGE = {"model": "a-model-of-the-client", "max_tokens": 5, "messages": []}
OVERLOADED = scripted.error(529, "overloaded_error")
ANSWER = scripted.reply("hello")


def ask(chain: Chain, **headers: str) -> httpx.Response:
    return httpx.post(f"{chain.url}/v1/messages", json=MESSAGE, headers=headers)


def scraped(url: str, **headers: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample of the page, by name and labels."""
    page = httpx.get(f"{url}/metrics", headers=headers)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def labels(**named: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(named.items()))


def test_a_failover_is_counted_on_both_sides(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, ANSWER)
    assert ask(running).status_code == 200
    running.proxy.wait_for("request.complete")
    found = scraped(running.url)
    primary, fallback = "anthropic-primary", "fallback1"
    assert found["ccfallback_requests_total"] == {
        labels(provider=fallback, outcome="answered", status="200"): 1
    }
    assert found["ccfallback_attempts_total"] == {
        labels(provider=primary, reason="first"): 1,
        labels(provider=fallback, reason="failover"): 1,
    }
    assert found["ccfallback_attempt_failures_total"] == {
        labels(provider=primary, fault="overloaded"): 1
    }
    assert found["ccfallback_failovers_total"] == {labels(provider=fallback, fault="overloaded"): 1}
    assert found["ccfallback_request_duration_seconds_count"] == {labels(provider=fallback): 1}
    assert found["ccfallback_time_to_first_token_seconds_count"] == {labels(provider=fallback): 1}
    tokens = found["ccfallback_tokens_total"]
    assert tokens[labels(provider=fallback, kind="output")] > 0


ODD_COUNTS = ["-5", "1e300", "9" * 400, "1.5", '"7"', "true", "null", "[]", '{"a": 1}']


@pytest.mark.parametrize("count", ODD_COUNTS)
def test_an_odd_count_of_an_upstream_leaves_the_page_readable(
    chain: Callable[..., Chain], count: str
) -> None:
    usage = {"input_tokens": "count", "output_tokens": "count"}
    odd = msgspec.json.encode({**scripted.message("hi"), "usage": usage})
    body = odd.replace(b'"count"', count.encode())
    running = chain(scripted.answer(200, body))
    answer = httpx.post(f"{running.url}/v1/messages", json=MESSAGE)
    assert answer.status_code == 200
    running.proxy.wait_for("request.complete")
    found = scraped(running.url)
    tokens = found.get("ccfallback_tokens_total", {})
    assert all(0 <= value < 2**53 for value in tokens.values())
    assert found["ccfallback_requests_total"]


def test_a_breaker_that_is_open_is_2(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(429, "rate_limit_error", headers={"retry-after": "500"}), ANSWER)
    ask(running)
    found = scraped(running.url)
    primary = labels(provider="anthropic-primary")
    assert found["ccfallback_breaker_state"][primary] == 2
    assert found["ccfallback_breaker_failures"][primary] == 1
    assert 0 < found["ccfallback_cooldown_seconds"][primary] <= 500
    assert found["ccfallback_breaker_state"][labels(provider="fallback1")] == 0
    assert found["ccfallback_cooldowns_total"][primary] == 1


def test_no_text_of_a_client_becomes_a_label(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, OVERLOADED)
    ask(running, **{"ccr-request-id": "an-id-of-the-client"})
    page = httpx.get(f"{running.url}/metrics").text
    assert "of-the-client" not in page
    assert "127.0.0.1" not in page
    assert "fallback-key-1" not in page


def test_the_log_level_changes_nothing(chain: Callable[..., Chain], paths: Paths) -> None:
    running = chain(ANSWER, ANSWER)
    running.proxy._background.proxy.recorder.set_level("error")
    ask(running)
    assert running.proxy.events("request.complete") == []
    assert sum(scraped(running.url)["ccfallback_requests_total"].values()) == 1


def test_a_request_is_counted_as_soon_as_its_client_has_the_answer(
    upstream: Callable[..., ScriptedUpstream], paths: Paths
) -> None:
    primary = upstream(ANSWER)
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(f'[primary]\nbase_url = "{primary.url}"\n')
    # Without a listener, so that records are made later.
    with BackgroundProxy(paths) as proxy:
        for number in range(1, 20):
            assert httpx.post(f"{proxy.url}/v1/messages", json=MESSAGE).status_code == 200
            assert sum(scraped(proxy.url)["ccfallback_requests_total"].values()) == number


def test_two_servers_count_separately(chain: Callable[..., Chain]) -> None:
    one = chain(ANSWER, ANSWER)
    other = chain(ANSWER, ANSWER)
    ask(one)
    assert sum(scraped(one.url)["ccfallback_requests_total"].values()) == 1
    assert "ccfallback_requests_total" not in scraped(other.url)


def test_every_metric_is_on_the_page_and_the_process_too(chain: Callable[..., Chain]) -> None:
    page = httpx.get(f"{chain(ANSWER, ANSWER).url}/metrics").text
    for metric in (*COUNTERS, *HISTOGRAMS, *GAUGES):
        assert f"# TYPE {metric.name} " in page
    if sys.platform == "linux":
        assert "process_resident_memory_bytes " in page


def test_a_provider_that_is_no_longer_configured_is_not_shown(
    chain: Callable[..., Chain], paths: Paths
) -> None:
    running = chain(OVERLOADED, ANSWER)
    ask(running)
    text = paths.config.read_text()
    paths.config.write_text(text.replace("fallback1", "renamed"))
    page = httpx.get(f"{running.url}/metrics").text
    assert "fallback1" not in page
    assert 'ccfallback_provider_enabled{provider="renamed"} 1.0' in page


def test_an_access_token_is_needed_if_any_are_configured(
    running: Callable[[str], RunningProxy],
) -> None:
    url = running('[[tokens]]\ntoken = "a-token"\n').url
    assert httpx.get(f"{url}/metrics").status_code == 401
    found = scraped(url, authorization="Bearer a-token")
    assert found["ccfallback_refused_total"] == {(): 1}


def test_what_exceeds_the_number_of_labels_is_shown_together(
    running: Callable[[str], RunningProxy],
) -> None:
    tokens = [f'[[tokens]]\ntoken = "secret-{each}"\nnote = "mate{each}"\n' for each in range(150)]
    proxy = running("".join(tokens))
    totals = proxy._background.proxy.services.totals
    for each in range(150):
        event = RequestComplete(provider="anthropic-primary", status=200 + each, cost=1.0)
        event.token = f"mate{each}"
        totals.count(event)
    found = scraped(proxy.url, authorization="Bearer secret-1")
    by_token = found["ccfallback_access_token_requests_total"]
    assert by_token[labels(token="(others)", outcome="answered")] == 50
    assert sum(by_token.values()) == 150
    assert sum(found["ccfallback_access_token_cost_dollars_total"].values()) == 150
    assert sum(found["ccfallback_requests_total"].values()) == 150


def test_openmetrics_is_served_on_request(running: Callable[[str], RunningProxy]) -> None:
    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    page = httpx.get(f"{running('').url}/metrics", headers=accept)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405)])
def test_only_get_and_head_are_allowed(
    running: Callable[[str], RunningProxy], method: str, status: int
) -> None:
    assert httpx.request(method, f"{running('').url}/metrics").status_code == status


def test_prometheus_client_is_not_imported_before_the_first_scrape() -> None:
    code = "import sys, ccfallback.server.serve; print('prometheus_client' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout == b"False\n"


def test_counting_a_request_takes_microseconds() -> None:
    from timeit import repeat

    from ccfallback.events.aggregate import metric_totals

    totals = metric_totals()
    start, attempt, success = (
        RequestStart(),
        ProviderAttempt(provider="a", reason="first"),
        ProviderSuccess(),
    )
    end = RequestComplete(
        provider="a",
        status=200,
        latency=5620.1,
        ttft=400.2,
        input_tokens=5,
        output_tokens=5,
        cache_read_tokens=5,
        cache_write_tokens=5,
    )

    def request() -> None:
        for event in (start, attempt, success, end):
            totals.count(event)

    least = min(repeat(request, number=500, repeat=20)) / 500
    # 5 microseconds at rest; the bound is for machines with other things to do.
    assert least < 50e-6
