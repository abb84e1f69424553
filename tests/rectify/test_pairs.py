"""Which result belongs to which call, and where it has to be."""

from typing import Any

import pytest

from ccfallback.rectify.pairs import claims_of, orphans_of, paired
from tests.rectify.structure import assistant, call, missing, result, system, text, user

HI = user(text("hi"))
A, B = call("a"), call("b")
DONE_A, DONE_B = result("a"), result("b")


@pytest.mark.parametrize(
    ("messages", "claims", "orphans"),
    [
        ([HI, assistant(A), user(DONE_A)], {(1, 0): (2, 0)}, set()),
        ([HI, assistant(A), user(text("x"), DONE_A)], {(1, 0): (2, 1)}, set()),
        ([HI, assistant(A)], {}, set()),
        ([user(DONE_A), assistant(A)], {(1, 0): (0, 0)}, {(0, 0)}),
        ([assistant(A), system("s"), user(DONE_A)], {(0, 0): (2, 0)}, set()),
        ([assistant(A), assistant(text("x")), user(DONE_A)], {(0, 0): (2, 0)}, set()),
        ([assistant(A), user(DONE_A, DONE_A)], {(0, 0): (1, 0)}, {(1, 1)}),
        (
            [assistant(A), user(DONE_A), assistant(A), user(DONE_A)],
            {(0, 0): (1, 0), (2, 0): (3, 0)},
            set(),
        ),
        (
            [assistant(A), HI, assistant(A), user(DONE_A, DONE_A)],
            {(0, 0): (3, 1), (2, 0): (3, 0)},
            {(3, 1)},
        ),
        ([user(A), assistant(DONE_A)], {}, {(1, 0)}),
    ],
)
def test_a_result_belongs_to_the_call_before_it(
    messages: list[Any], claims: dict[Any, Any], orphans: set[Any]
) -> None:
    assert claims_of(messages) == claims
    assert orphans_of(messages) == orphans


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, assistant(A)], [HI, assistant(A), user(missing("a"))]),
        ([HI, assistant(A), HI], [HI, assistant(A), user(missing("a"), text("hi"))]),
        (
            [HI, assistant(A), {"role": "user", "content": "hi"}],
            [HI, assistant(A), user(missing("a"), text("hi"))],
        ),
        (
            [assistant(A, B), user(text("x"), DONE_B), HI, assistant(text("y")), user(DONE_A)],
            [
                *(assistant(A, B), user(DONE_A, DONE_B, text("x")), HI, assistant(text("y"))),
                user(text("(no content)")),
            ],
        ),
        (
            [assistant(A, B), user(DONE_A), user(DONE_B)],
            [assistant(A, B), user(DONE_A, DONE_B)],
        ),
        (
            [assistant(A), assistant(text("x"), B), user(DONE_A, DONE_B)],
            [assistant(A, text("x"), B), user(DONE_A, DONE_B)],
        ),
        (
            [assistant(A), system("s"), user(DONE_A), HI, assistant(text("x"))],
            [assistant(A), user(DONE_A), HI, system("s"), assistant(text("x"))],
        ),
        ([assistant(A), system("s")], [assistant(A), user(missing("a")), system("s")]),
        ([assistant(A), {"role": "tool"}], [assistant(A), user(missing("a")), {"role": "tool"}]),
    ],
)
def test_results_are_put_right_after_their_calls(messages: list[Any], expected: list[Any]) -> None:
    made = paired(messages)
    assert made.messages == expected
    assert paired(expected).messages == expected


@pytest.mark.parametrize(
    "messages",
    [
        [HI, assistant(A, B), user(DONE_B, DONE_A, text("x"))],
        [HI, assistant(text("x")), assistant(A), user(DONE_A), system("s")],
        [HI, user(DONE_B)],
        [5, {"role": "assistant", "content": 7}, {"role": "assistant"}],
    ],
)
def test_what_is_in_order_stays(messages: list[Any]) -> None:
    made = paired(messages)
    assert made.messages == messages
    assert all(new is old for new, old in zip(made.messages, messages, strict=True))
    assert not made.moved + made.invented + made.turns
