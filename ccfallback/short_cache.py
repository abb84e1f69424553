"""A cache for functions of what a client or a provider sends, which may be very long."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)

LONGEST_KEY: Final = 1024
"""Characters or bytes of a last argument for which a result is kept."""


class Cached(Protocol[P, T_co]):
    """A function whose results are kept."""

    cache_clear: Callable[[], None]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call the function, or take the result of the same call before."""


def short_cache(maxsize: int) -> Callable[[Callable[P, T_co]], Cached[P, T_co]]:
    """Cache a function's results, but not for a long last argument, which is a text.

    `lru_cache` keeps what it is called with: a few hundred names of 3 MB would be a gigabyte.
    The function is called without keywords.
    """

    def decorate(function: Callable[P, T_co]) -> Cached[P, T_co]:
        cached = lru_cache(maxsize)(function)
        plain = cast("Callable[..., T_co]", function)

        @wraps(function)
        def call(*args: Any) -> T_co:
            return cached(*args) if len(args[-1]) <= LONGEST_KEY else plain(*args)

        made = cast("Any", call)
        made.cache_clear, made.cache_info = cached.cache_clear, cached.cache_info
        return cast("Cached[P, T_co]", made)

    return decorate
