"""The codes of errors that need more than a line; `cli/help/pages/errors.md` explains each.

A code never changes its meaning, and a number is never used again. Codes from 101 are of responses
of the proxy, codes from 201 of commands. They stand in the response as `error.code`, and at the end
of a message in brackets.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The address of an error's explanation: `ccfallback help E101`."""

    INVALID_TOKEN = "CCF-E101"
    FOREIGN_HOST = "CCF-E102"
    FOREIGN_PAGE = "CCF-E103"
    UNREADABLE_BODY = "CCF-E104"
    BODY_TOO_LARGE = "CCF-E105"
    NO_FALLBACK = "CCF-E106"
    ALL_FAILED = "CCF-E107"
    PROMPT_TOO_LONG = "CCF-E108"
    CAP_REACHED = "CCF-E109"
    REQUEST_LOOP = "CCF-E110"
    INTERNAL = "CCF-E111"
    UNKNOWN_PATH = "CCF-E112"
    MALFORMED_HTTP = "CCF-E113"
    BROKEN_CONFIG = "CCF-E201"
    UNWRITABLE_STATE = "CCF-E202"
    PORT_TAKEN = "CCF-E203"
    NEEDS_TOKENS = "CCF-E204"
    BAD_IMPORT = "CCF-E205"
    BUG = "CCF-E206"

    def mark(self, message: str) -> str:
        """The message with the code at its end, unless clients know this message by its words."""
        fixed = (ErrorCode.INVALID_TOKEN, ErrorCode.PROMPT_TOO_LONG)
        return message if self in fixed else f"{message} [{self}]"
