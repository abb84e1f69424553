"""Stop reasons: what they mean, and which of them are no reason."""

import pytest

from ccfallback.messages.stop_reasons import End, is_absent, read_end, stop_failure

MEANINGS = [
    ("stop", End.TURN),
    (" STOP ", End.TURN),
    ("FINISH_REASON_STOP", End.TURN),
    ("length", End.CUT),
    ("content_filter: violence", End.REFUSED),
    ("model_context_window_exceeded", End.WINDOW_FULL),
    ("abort", End.FAILED),
]


@pytest.mark.parametrize(("reason", "end"), MEANINGS)
def test_what_a_reason_means(reason: str, end: End) -> None:
    assert read_end(reason) is end
    assert (stop_failure(reason) is None) == (end is not End.FAILED)
    assert not is_absent(reason)


@pytest.mark.parametrize("reason", [None, "", " ", ":", "null", "NULL", "None", " none "])
def test_an_absent_reason_ends_only_an_answer_that_has_ended(reason: str | None) -> None:
    assert is_absent(reason)
    assert read_end(reason) is End.TURN
    assert stop_failure(reason) is None
