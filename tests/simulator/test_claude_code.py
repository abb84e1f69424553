"""The model of the client: what it does next, row by row of what was measured."""

import pytest

from ccfallback.simulator.claude_code import MOST_TRIES, ClientView, Ending, Retry, next_try


def refused(status: int, **more: object) -> ClientView:
    return ClientView(Ending.STATUS, stream=True, status=status, **more)  # type: ignore[arg-type] # the rows below are few


@pytest.mark.parametrize("status", [401, 408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_eleven_times(status: int) -> None:
    assert next_try([refused(status)], login=False) == Retry(stream=True, wait=0.6)
    assert next_try([refused(status)] * (MOST_TRIES - 1), login=False) is not None
    assert next_try([refused(status)] * MOST_TRIES, login=False) is None


@pytest.mark.parametrize("status", [400, 402, 403, 413, 422])
def test_what_does_not_pass_is_shown(status: int) -> None:
    assert next_try([refused(status)], login=False) is None


def test_a_wait_of_a_minute_is_waited_for_and_a_longer_one_is_not() -> None:
    assert next_try([refused(529, retry_after=60.0)], login=False) == Retry(stream=True, wait=60.0)
    assert next_try([refused(529, retry_after=61.0)], login=False) is None


def test_it_obeys_a_word_on_whether_to_retry() -> None:
    assert next_try([refused(502, should_retry="false")], login=False) is None
    assert next_try([refused(403, should_retry="true")], login=False) is not None


def test_a_login_is_renewed_once() -> None:
    assert next_try([refused(401)], login=True) == Retry(stream=True, wait=0.0)
    assert next_try([refused(401), refused(401)], login=True) is None


def test_a_dropped_connection_is_retried_as_a_stream() -> None:
    dropped = ClientView(Ending.DROPPED, stream=True)
    assert next_try([dropped], login=False) == Retry(stream=True, wait=0.6)
    assert next_try([dropped, dropped], login=False) == Retry(stream=True, wait=1.2)


@pytest.mark.parametrize("ending", [Ending.DROPPED, Ending.ENDED_EARLY, Ending.ERROR_EVENT])
def test_an_answer_that_broke_off_after_a_finished_block_is_not_requested_again(
    ending: Ending,
) -> None:
    assert next_try([ClientView(ending, stream=True, kept=True)], login=False) is None


@pytest.mark.parametrize("ending", [Ending.MALFORMED, Ending.ENDED_EARLY, Ending.ERROR_EVENT])
def test_an_unreadable_stream_is_requested_again_as_a_whole_answer(ending: Ending) -> None:
    assert next_try([ClientView(ending, stream=True)], login=False) == Retry(stream=False, wait=0.0)
    assert next_try([ClientView(ending, stream=False)], login=False) is None


def test_an_overload_in_a_stream_is_two_more_streams_first() -> None:
    overloaded = ClientView(Ending.ERROR_EVENT, stream=True, overloaded=True)
    again = [next_try([overloaded] * count, login=False) for count in (1, 2, 3)]
    assert [each and each.stream for each in again] == [True, True, False]


def test_an_unknown_model_is_requested_once_more() -> None:
    assert next_try([refused(404)], login=False) == Retry(stream=False, wait=0.0)
