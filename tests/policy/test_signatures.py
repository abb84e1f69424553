"""Which provider signed which thinking."""

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.thinking import signature_digest
from ccfallback.policy.signatures import MOST, MOST_SAVED, SignatureOrigins
from ccfallback.wire.provider_body import without_foreign_thinking

PRIMARY = Provider(name="anthropic-primary", base_url="https://a.test", primary=True)
ONE = Provider(name="one", base_url="https://one.test")
TWO = Provider(name="two", base_url="https://two.test")

RAW = (
    b'{"model":"m",  "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":['
    b'{"type":"thinking","thinking":"p",  "signature":"by-the-primary"},'
    b'{"type":"thinking","thinking":"u","signature":"by-an-unknown"},'
    b'{"type":"thinking","thinking":"1","signature":"by-one"},'
    b'{"type":"redacted_thinking","data":"hidden-by-two"},'
    b'{"type":"text","text":"t"}]}]}'
)


def origins() -> SignatureOrigins:
    """What this machine has seen."""
    found = SignatureOrigins()
    found.remember(map(signature_digest, ["by-the-primary"]), "anthropic-primary", primary=True)
    found.remember(map(signature_digest, ["by-one"]), "one", primary=False)
    found.remember(map(signature_digest, ["hidden-by-two"]), "two", primary=False)
    return found


def signed(provider: Provider) -> list[str]:
    """The signatures that reach a provider."""
    sent = without_foreign_thinking(Body.parse(RAW), provider, origins())
    blocks = sent.get("messages")[1]["content"]
    return [b.get("signature") or b.get("data") for b in blocks if b["type"] != "text"]


def test_a_provider_gets_its_own_thinking_and_thinking_of_an_unknown_signer() -> None:
    assert signed(PRIMARY) == ["by-the-primary", "by-an-unknown"]
    assert signed(ONE) == ["by-an-unknown", "by-one"]
    assert signed(TWO) == ["by-an-unknown", "hidden-by-two"]


def test_genuine_blocks_reach_the_primary_unchanged_every_time() -> None:
    sent = without_foreign_thinking(Body.parse(RAW), PRIMARY, origins())
    assert b'{"type":"thinking","thinking":"p",  "signature":"by-the-primary"}' in sent.raw
    again = without_foreign_thinking(Body.parse(RAW), PRIMARY, origins())
    assert sent.raw == again.raw


def test_unsigned_thinking_does_not_reach_the_primary() -> None:
    raw = (
        b'{"messages":[{"role":"assistant","content":['
        b'{"type":"thinking","thinking":"x","signature":""},{"type":"text","text":"t"}]}]}'
    )
    sent = without_foreign_thinking(Body.parse(raw), PRIMARY, None)
    assert [block["type"] for block in sent.get("messages")[0]["content"]] == ["text"]
    kept = without_foreign_thinking(Body.parse(raw), ONE, None)
    assert kept.raw == raw


def test_the_signatures_of_fallbacks_survive_a_restart() -> None:
    saved = origins().to_save()
    assert sorted(saved.values()) == ["one", "two"]
    again = SignatureOrigins()
    again.load(saved)
    assert again.signer("by-one") == "one"
    assert again.signer("by-the-primary") is None
    assert "by-one" not in str(saved)


def digests(count: int) -> list[str]:
    return [signature_digest(str(number)) for number in range(count)]


def test_the_number_of_remembered_signatures_is_bounded() -> None:
    found = SignatureOrigins()
    found.remember(
        (signature_digest(str(number)) for number in range(MOST + 100)), "one", primary=False
    )
    assert found.signer("0") is None
    assert found.signer(str(MOST + 99)) == "one"
    assert len(found.to_save()) == MOST_SAVED


def test_the_origins_know_whether_another_provider_has_signed() -> None:
    found = SignatureOrigins()
    assert not found.knows_others_than("anthropic-primary")
    found.remember(map(signature_digest, ["a", "b"]), "anthropic-primary", primary=True)
    assert not found.knows_others_than("anthropic-primary")
    assert found.knows_others_than("one")
    found.remember(map(signature_digest, ["b"]), "one", primary=False)
    assert found.knows_others_than("anthropic-primary")
    found.remember(map(signature_digest, ["b"]), "anthropic-primary", primary=True)
    assert not found.knows_others_than("anthropic-primary")
    found.load({"00": "two"})
    assert found.knows_others_than("anthropic-primary")
    found.remember(
        (signature_digest(str(number)) for number in range(MOST)), "anthropic-primary", primary=True
    )
    assert not found.knows_others_than("anthropic-primary")


ELSEWHERE = Provider(name="google", base_url="https://claude.googleapis.com")
AMAZON = Provider(name="aws", base_url="https://bedrock-mantle.us-east-1.api.aws/anthropic")


def claudes(*more: str) -> SignatureOrigins:
    """The primary, two platforms of Claude, and others have signed."""
    found = origins()
    by_two = {"google": "by-an-unknown", "aws": "by-one"}
    for name, signature in (("anthropic-primary", "by-the-primary"), *by_two.items()):
        primary = name == "anthropic-primary"
        found.remember([signature_digest(signature)], name, primary=primary, shared=True)
    for name in more:
        found.separate(name)
    return found


def signed_by_claude(provider: Provider, *apart: str) -> list[str]:
    sent = without_foreign_thinking(Body.parse(RAW), provider, claudes(*apart))
    blocks = sent.get("messages")[1]["content"]
    return [b.get("signature") or b.get("data") for b in blocks if b["type"] != "text"]


def test_claudes_signatures_are_valid_wherever_claude_is() -> None:
    for provider in (PRIMARY, ELSEWHERE, AMAZON):
        assert signed_by_claude(provider) == ["by-the-primary", "by-an-unknown", "by-one"]
    assert signed_by_claude(TWO) == ["hidden-by-two"]


def test_a_platform_that_has_refused_a_signature_shares_none() -> None:
    assert signed_by_claude(AMAZON, "aws") == ["by-one"]
    assert signed_by_claude(PRIMARY, "aws") == ["by-the-primary", "by-an-unknown"]
    assert signed_by_claude(ELSEWHERE, "aws") == ["by-the-primary", "by-an-unknown"]


def test_only_signatures_that_are_not_claudes_need_saving() -> None:
    found = claudes()
    assert set(found.to_save().values()) == {"two"}
    found.separate("aws")
    assert set(found.to_save().values()) == {"two", "aws"}


def test_only_what_a_fallback_signs_has_to_be_saved() -> None:
    found = SignatureOrigins()
    assert not found.changed
    found.remember(digests(1), "anthropic-primary", primary=True)
    found.remember(digests(2)[1:], "cloud", primary=False, shared=True)
    assert not found.changed
    found.remember(digests(1), "one", primary=False)
    assert not found.changed, "it is known already"
    found.remember(digests(3)[2:], "one", primary=False)
    assert found.changed


def test_what_is_forgotten_does_not_count() -> None:
    found = SignatureOrigins()
    found.remember(digests(1), "two", primary=False)
    found.remember(digests(MOST), "one", primary=False)
    assert not found.knows_others_than("one")
    found.remember(map(signature_digest, ["a", "b"]), "two", primary=False)
    assert found.signer("0") is None
    assert found.signer("2") == "one"
    found.remember(map(signature_digest, map(str, range(MOST, 2 * MOST))), "two", primary=False)
    assert not found.knows_others_than("two")


def test_a_provider_that_refuses_foreign_thinking_is_apart() -> None:
    found = SignatureOrigins()
    found.separate("cloud")
    assert found.is_apart("cloud")
    assert not found.is_apart("other")
    found.separate("cloud", apart=False)
    assert not found.is_apart("cloud")
