"""Calls in a thread of their own, because what they wait for may hang for ever."""

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def call_within(seconds: float, call: Callable[[], T], name: str) -> T:
    """What a call returns or raises, which runs in a thread of that name.

    Raises `TimeoutError` if it takes longer; then it goes on, and its result is dropped.
    """
    # Imported here, because it loads `logging`, which most commands do without.
    from concurrent.futures import Future

    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return result.result(seconds)
