"""Signatures that a provider does not know: of calls, which somebody signs, or of thinking."""

from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import (
    ANY,
    Path,
    blocks_of,
    counted,
    kind_of,
    messages_of,
    without_all,
)
from ccfallback.rectify.paths import refused_paths, unknown_field
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import THOUGHTS, without_thoughts

_SIGNATURE: Final = "signature"
_BLOCK: Final[Path] = ("messages", ANY, "content", ANY)
_SIGNED_ELSEWHERE: Final = THOUGHTS | {"compaction"}
"""What a signature belongs to."""


class _SignatureField:
    name = "signature_field"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take the signature away from what needs none, or thinking out of the history."""
        refused = [path for path in refused_paths(refusal.text) if path[-1] == _SIGNATURE]
        if not refused:
            return None
        tags = {path[-2] for path in refused if len(path) > 1} - {ANY}
        # A place without a kind may be either.
        of_thinking = not tags or not THOUGHTS.isdisjoint(tags)
        of_others = not tags or bool(tags - THOUGHTS)
        body, others = without_all(draft.body, _signed_kinds(draft) if of_others else ())
        body, thoughts = without_thoughts(body) if of_thinking else (body, 0)
        done = [f"{counted(others, 'signature')} removed"] if others else []
        done += [f"{counted(thoughts, 'thinking block')} removed"] if thoughts else []
        if not done:
            return None
        lesson = "; ".join(unknown_field((*_BLOCK, tag, _SIGNATURE)) for tag in sorted(tags))
        return Repaired(
            draft.with_body(body),
            ", ".join(done),
            lesson or unknown_field((_SIGNATURE,)),
        )


def _signed_kinds(draft: RequestDraft) -> list[Path]:
    """Where signatures are that belong to nothing."""
    kinds = {
        kind_of(block)
        for message in messages_of(draft.body)
        for block in blocks_of(message)
        if isinstance(block, dict) and _SIGNATURE in block
    }
    return [(*_BLOCK, kind, _SIGNATURE) for kind in sorted(kinds - _SIGNED_ELSEWHERE) if kind]


SIGNATURE_FIELD: Final[Rectifier] = _SignatureField()
