"""The head of an HTTP/1.1 message, of either kind.

Nothing in a header may end its line: what the other side takes for another header, or for the
next message, must not be somebody else's choice.
"""

import re
from collections.abc import Sequence
from typing import Final

_TOKEN: Final = rb"[!#-'*+\-.0-9A-Z^-z|~]++"
_HEAD: Final = re.compile(
    rb"(?:%b [^\x00-\x20\x7f]++ HTTP/1\.1|HTTP/1\.1 \d{3} [\x20-\x7e]*+)\r\n"
    rb"(?:%b:[^\x00\r\n]*+\r\n)*+\r\n" % (_TOKEN, _TOKEN)
)


def whole_head(lines: Sequence[bytes]) -> bytes:
    """The head that these lines make. Raises `ValueError` if it is none."""
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # A line break inside a header would still look like a head: as one line more.
    breaks = len(lines) + 1
    if _HEAD.fullmatch(head) is None or head.count(b"\r") != breaks or head.count(b"\n") != breaks:
        raise ValueError("illegal character in a head")
    return head
