"""Cuts a stream into lines, for streams whose events may lack the empty line that ends them."""

from typing import Final

from ccfallback.messages.sse import EventTooLong

MAX_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event."""


class LineSplitter:
    """`feed` any bytes and get whole lines; `rest` is what no line end has followed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends. Raises `EventTooLong`."""
        parts = self._parts
        if not parts and chunk.endswith(b"\n"):
            return chunk.splitlines()
        if not chunk:
            return []
        # A long line arrives in many reads: they are joined only when the line ends.
        is_ended = bool(parts) and parts[-1].endswith(b"\r")
        parts.append(chunk)
        self._size += len(chunk)
        lines: list[bytes] = []
        if is_ended or b"\n" in chunk or b"\r" in chunk:
            whole = b"".join(parts)
            # A carriage return at the very end may be half of a line end still to come.
            end = max(whole.rfind(b"\n"), whole.rfind(b"\r", 0, len(whole) - 1)) + 1
            rest = whole[end:]
            self._parts = [rest] if rest else []
            self._size = len(rest)
            lines = whole[:end].splitlines()
        if self._size > MAX_EVENT:
            raise EventTooLong
        return lines

    @property
    def rest(self) -> bytes:
        """What has come since the last line end."""
        return b"".join(self._parts)
