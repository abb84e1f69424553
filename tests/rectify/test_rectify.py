"""How repairs are chosen, with repairs made up for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from ccfallback import rectify as package
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import RECTIFIERS, rectify
from ccfallback.rectify.rule import Refusal, Repaired

DRAFT = RequestDraft(Body.parse(b'{"model":"m","a":1}'))
REFUSAL = Refusal(400, "a: not permitted")


@dataclass
class Dropping:
    """Takes a member out where the refusal names it."""

    name: str
    asked: list[Refusal] = field(default_factory=list)

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        self.asked.append(refusal)
        if self.name in draft.body and refusal.message.startswith(f"{self.name}:"):
            return Repaired(RequestDraft(draft.body.without(self.name)), f"{self.name} removed")
        return None


def install(monkeypatch: pytest.MonkeyPatch, rectifiers: Sequence[Dropping]) -> None:
    monkeypatch.setattr(package, "RECTIFIERS", tuple(rectifiers))


def test_the_first_repair_that_applies_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    rectifiers = [Dropping("x"), Dropping("a"), Dropping("model")]
    install(monkeypatch, rectifiers)
    found = rectify(DRAFT, REFUSAL)
    assert found is not None
    name, repaired = found
    assert name == "a"
    assert repaired.draft.body.raw == b'{"model":"m"}'
    assert [len(rectifier.asked) for rectifier in rectifiers] == [1, 1, 0]
    assert rectifiers[0].asked == [REFUSAL]


def test_a_repair_leaves_the_body_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [Dropping("a")])
    rectify(DRAFT, REFUSAL)
    assert DRAFT.body.raw == b'{"model":"m","a":1}'


def test_a_repair_that_is_to_be_skipped_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rectifiers = [Dropping("a")]
    install(monkeypatch, rectifiers)
    assert rectify(DRAFT, REFUSAL, skip={"a"}) is None
    assert not rectifiers[0].asked


def test_an_unknown_refusal_has_no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [Dropping("a")])
    assert rectify(DRAFT, Refusal(400, "something else")) is None
    install(monkeypatch, [])
    assert rectify(DRAFT, REFUSAL) is None


def test_every_rectifier_has_a_name_of_its_own() -> None:
    names = [rectifier.name for rectifier in RECTIFIERS]
    assert len(set(names)) == len(names)
    assert "enabled" not in names
    assert all(name.isidentifier() and name.islower() for name in names)
