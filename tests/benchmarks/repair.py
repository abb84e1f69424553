"""What repairs cost on a long conversation: `python -m tests.benchmarks.repair`.

Medians of repeated runs, in milliseconds of this machine's time.
"""

import random
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from ccfallback.config.model import Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.signatures import SignatureOrigins
from ccfallback.rectify import NAMES, attempt, find_repairs, prevent
from ccfallback.rectify.rule import Refusal
from ccfallback.simulator.scripted import Received
from ccfallback.wire.provider_body import adapt_body
from tests.rectify.drafts import BETAS, CASES
from tests.rectify.refusals import REFUSALS, REFUSED
from tests.server.plain_api import refusals

ROUNDS = 30
SIZE = 950_000
PRIMARY = Provider(name="anthropic-primary", base_url="https://p.invalid", primary=True)
FALLBACK = Provider(name="other", base_url="https://f.invalid")


def measured(work: Callable[[], object]) -> float:
    """The median of many runs, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times) * 1e3


def long_request() -> bytes:
    """A real first turn, then tool steps with signed thinking until it is long."""
    asked: dict[str, Any] = msgspec.json.decode((CASES / "first_turn.json").read_bytes())["asked"]
    chance = random.Random(1)
    words = [f"{chance.getrandbits(40):x}" for _ in range(2000)]
    messages, size, number = list(asked["messages"]), 0, 0
    while size < SIZE:
        number += 1
        tool_id, signature = f"toolu_{number}", f"Esg{chance.getrandbits(2400):x}"
        answer = [
            {"type": "thinking", "thinking": "", "signature": signature},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": tool_id, "name": "Bash", "input": {"command": "ls"}},
        ]
        told = "\n".join(" ".join(chance.choices(words, k=12)) for _ in range(40))
        result = {"type": "tool_result", "tool_use_id": tool_id, "content": told}
        messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": [result]})
        size += len(told) + len(signature) + 300
    return msgspec.json.encode({**asked, "messages": messages})


def lessons_of_the_plain_api(draft: RequestDraft) -> list[LearnedRejection]:
    """All that a provider teaches who knows nothing newer."""
    learned: list[LearnedRejection] = []
    while True:
        headers = (("anthropic-beta", ",".join(draft.betas)),) if draft.betas else ()
        fault = next(refusals(Received("POST", "/", headers, draft.body.raw)), None)
        found = None if fault is None else next(find_repairs(draft, Refusal(400, fault)), None)
        if found is None:
            return learned
        name, repaired = found
        draft = repaired.draft
        if repaired.lesson:
            learned.append(LearnedRejection(name, draft.body.model, repaired.lesson, 0.0))


def dearest_repair(raw: bytes) -> tuple[str, float]:
    """The repair that costs the most, bytes included, and how much."""
    costs: dict[str, float] = {}
    for name in NAMES:
        for wording in (*REFUSALS.get(name, ()), *REFUSED.get(name, ())):
            refusal = Refusal(400, wording)
            began = perf_counter()
            made = attempt(name, RequestDraft(Body.parse(raw), BETAS), refusal)
            if made is not None:
                assert made.draft.body.raw
                took = (perf_counter() - began) * 1e3
                costs[name] = max(took, costs.get(name, 0.0))
    dearest = max(costs, key=lambda each: costs[each])
    return dearest, costs[dearest]


def main() -> None:
    """Measure, and print a line for each."""
    raw = long_request()
    body = Body.parse(raw)
    origins = SignatureOrigins()
    origins.remember(["of the primary"], PRIMARY.name, primary=True)
    mixed = SignatureOrigins()
    mixed.remember(["of another"], FALLBACK.name, primary=False)
    lessons = lessons_of_the_plain_api(RequestDraft(body, BETAS))

    def made(work: Callable[[Body], Body]) -> float:
        return measured(lambda: work(Body.parse(raw)).raw)

    def sent(provider: Provider, known: SignatureOrigins) -> float:
        return made(lambda parsed: adapt_body(provider, parsed, Privacy(), known))

    def prevented(known: list[LearnedRejection]) -> float:
        return made(lambda parsed: prevent(RequestDraft(parsed, BETAS), known)[0].body)

    lines = [
        ("parsing it", made(lambda parsed: parsed)),
        ("for the primary", sent(PRIMARY, origins)),
        ("for the primary, a fallback has thought", sent(PRIMARY, mixed)),
        ("for a fallback", sent(FALLBACK, origins)),
        (f"without what {len(lessons)} lessons say", prevented(lessons)),
        *((f"  {lesson.rectifier} alone", prevented([lesson])) for lesson in lessons),
    ]
    name, cost = dearest_repair(raw)
    lines.append((f"the dearest repair, {name}", cost))
    sys.stdout.write(f"a request of {len(raw) / 1000:.0f} kB, each line with parsing\n")
    for what, milliseconds in lines:
        sys.stdout.write(f"{what:<46} {milliseconds:8.2f} ms\n")


if __name__ == "__main__":
    main()
