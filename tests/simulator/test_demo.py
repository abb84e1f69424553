"""The demonstration shows the main job done."""

from ccfallback.server.record import Record
from ccfallback.simulator.demo import demo


def test_the_demonstration_ends_with_an_answer_of_the_fallback() -> None:
    records: list[Record] = []
    result = demo(records.append)
    assert result.ok
    assert result.attempts == 2
    events = [record.event for record in records]
    assert events.index("provider.failure") < events.index("provider.success")
    assert "request.complete" in events
    assert "files.open" not in events
