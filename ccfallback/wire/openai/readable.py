"""A request that can be read in any case.

JavaScript writes half a surrogate pair where a text was cut inside an emoji. A strict decoder
refuses the whole member for it, and no provider takes it; the replacement character says as much.
"""

import re
from typing import Final

from ccfallback.core.body import Body, NotAnObject

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|.)",
    re.DOTALL,
)
"""An escape in JSON; the pairs and the escaped backslashes are there to be passed over."""

_READ: Final = ("messages", "system", "tools", "metadata", "stop_sequences", "output_config")


def readable(body: Body) -> Body:
    """A body whose members can be read: itself, unless one has half letters in it."""
    if all(body.get(key) is not None for key in _READ if key in body):
        return body
    text = body.raw.decode(errors="replace")
    mended = _ESCAPE.sub(lambda match: r"\ufffd" if match["half"] else match[0], text)
    raw = mended.encode()
    try:
        return body if raw == body.raw else Body.parse(raw)
    except NotAnObject:
        return body
