"""Scripts: all that happens in a history, as data that a file can hold.

`make` draws one from a seed. Whatever chance decides while a history runs comes from generators of
its own for each session and provider, so that a shorter script changes nothing about the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import msgspec

from tests.simulation.providers import PRIMARY
from tests.simulation.weather import KINDS

T = TypeVar("T")
Event = Mapping[str, Any]

MACHINE: Final[dict[str, float]] = {
    "offline": 1.0,
    "no-dns": 1.0,
    "sleep": 1.5,
    "clock": 1.5,
    "disk-full": 1.0,
    "disk-slow": 1.0,
    "kill": 2.0,
    "restart": 1.0,
    "second-server": 0.7,
    "edit": 2.0,
    "reset": 1.0,
    "trip": 0.7,
    "garble-state": 0.5,
    "expire-login": 1.5,
}
"""What can happen to the machine, and how often."""

WEATHERS: Final = ("mixed", "drift", "full")
"""Mixed: faults of all kinds. Drift: all providers are well, and their latencies change.
Full: mixed, and newer clients, wide turns, refusals, caps, plan windows, checks and side
endpoints."""

MORE_KINDS: Final = (
    "filling", "filling", "small-window", "no-context-management", "no-system-turns",
    "no-effort", "no-adaptive-thinking", "fewer-tokens",
)  # fmt: skip
"""The kinds of weather that `full` adds."""

EDITS: Final = ("disable", "reverse", "timeouts", "failback", "broken", "empty", "same")


@dataclass
class Script:
    """A history before it has happened."""

    seed: int
    hours: float
    config: dict[str, Any]
    sessions: list[dict[str, Any]]
    events: list[Event] = field(default_factory=list)
    weather: str = "mixed"

    def write(self) -> str:
        """The script as text for a file."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    @classmethod
    def read(cls, path: Path) -> "Script":
        """Read a script from a file."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


def pick(chance: Random, options: Sequence[T]) -> T:
    """One of them; `Random.choice` may differ between versions of Python."""
    return options[int(chance.random() * len(options))]


def weighted(chance: Random, weights: Mapping[str, float]) -> str:
    """One of the names, by its weight."""
    left = chance.random() * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return next(iter(weights))


def between(chance: Random, low: float, high: float) -> float:
    """A number that is more often small, rounded so that files hold it exactly."""
    return round(low + (high - low) * chance.random() ** 2, 3)


def make(seed: int, hours: float, weather: str = "mixed") -> Script:
    """The script of a seed."""
    chance = Random(seed * 7919 + 17)
    names = ["relay", "oai", "spare"][: 1 + int(chance.random() * 3)]
    providers = [_make_provider(chance, name) for name in names]
    config: dict[str, Any] = {"server": {"port": 8787}}
    if chance.random() < 0.3:
        config["failback"] = {"mode": pick(chance, ("eager", "cache", "auto"))}
    if chance.random() < 0.2:
        config["breaker"] = {"max_cooldown": pick(chance, (20, 60, 120)), "max_reset": 3600}
    config["providers"] = providers
    script = Script(seed, hours, config, _make_sessions(chance, hours), weather=weather)
    everyone = [PRIMARY, *names]
    if weather == "drift":
        # Providers that are well, with latencies of all kinds.
        script.events = [
            {"at": start * 3600.0, "kind": "drift", "for": 3000.0, "provider": name,
             "most": between(chance, 1.0, 9.0)}
            for start in range(int(hours))
            for name in everyone
        ]  # fmt: skip
        return script
    events = [
        *(_make_weather(chance, hours, everyone) for _ in range(_count(chance, hours, 1.6))),
        *(_make_trouble(chance, hours, everyone) for _ in range(_count(chance, hours, 0.6))),
    ]
    if chance.random() < 0.25:
        events += _make_storm(chance, hours, everyone)
    if weather == "full":
        # Of a chance of its own, so that the rest is as in the mixed history of this seed.
        events += _add_more(Random(seed * 6151 + 5), script, everyone)
    script.events = sorted(events, key=lambda event: float(event["at"]))
    return script


def _add_more(chance: Random, script: Script, names: Sequence[str]) -> list[Event]:
    """Add what only `full` has to a script; returns the weather."""
    config, hours = script.config, script.hours
    for table in config["providers"]:
        if chance.random() < 0.4:
            table["cap"] = {"day": between(chance, 0.01, 0.6)}
        if chance.random() < 0.15:
            table["context_window"] = 3000
    if chance.random() < 0.4:
        config["primary"] = {"prices": {"input": 5.0, "output": 25.0}}
        config["primary"]["cap"] = {"day": between(chance, 0.02, 1.0)}
    if chance.random() < 0.6:
        config["quota"] = {"switch_at": pick(chance, (0.6, 0.8, 0.9))}
    if chance.random() < 0.5:
        config["check"] = {"every": "1h"}
    for session in script.sessions:
        session["has_features"] = True
        for turn in session["turns"]:
            turn["is_wide"] = chance.random() < 0.3
            turn["looks"] = chance.random() < 0.1
    plans = [each["name"] for each in script.sessions if each["is_plan"]]
    events: list[Event] = []
    for _ in range(_count(chance, hours, 0.7)):
        kind = pick(chance, MORE_KINDS)
        event: dict[str, Any] = {
            "at": round(chance.random() * hours * 3600.0, 3),
            "kind": kind,
            "provider": PRIMARY if chance.random() < 0.5 else pick(chance, names),
            "for": between(chance, 200.0, KINDS[kind].longest),
        }
        if kind == "filling":
            if not plans:
                continue
            # It has to be over before the quiet hour.
            event |= {"provider": PRIMARY, "person": pick(chance, plans)}
            event["for"] = min(event["for"], hours * 3600.0 - event["at"])
        events.append(event)
    if chance.random() < 0.4:
        # The primary fails while the fallbacks have no room for a long conversation.
        at = round(chance.random() * hours * 3600.0, 3)
        events.append({"at": at, "kind": pick(chance, ("error-500", "burst-529")),
                       "provider": PRIMARY, "for": 300.0})  # fmt: skip
        events += [
            {"at": at, "kind": "small-window", "provider": n, "for": 300.0} for n in names[1:]
        ]
    return events


def _count(chance: Random, hours: float, per_hour: float) -> int:
    return 1 + int(chance.random() * 2.0 * per_hour * hours)


def _make_provider(chance: Random, name: str) -> dict[str, Any]:
    format_ = "openai" if name == "oai" or chance.random() < 0.2 else "anthropic"
    provider: dict[str, Any] = {
        "name": name,
        "base_url": f"https://{name}.example/v1",
        "format": format_,
        "api_key": f"KEY-{name}",
        "prices": {"input": 3.0, "output": 15.0},
    }
    if chance.random() < 0.25:
        provider["retry"] = 1
    return provider


def _make_sessions(chance: Random, hours: float) -> list[dict[str, Any]]:
    """People who work for a while: turns with pauses, tools, agents and second thoughts."""
    sessions = []
    for number in range(1 + int(chance.random() * 2.4)):
        turns: list[dict[str, Any]] = []
        now = between(chance, 5.0, 1200.0)
        while now < hours * 3600.0 and len(turns) < 8 * hours + 4:
            turns.append(
                {
                    "at": round(now, 3),
                    "steps": int(between(chance, 0.0, 4.0)),
                    "agents": pick(chance, (0, 0, 0, 0, 0, 1, 2, 3)),
                    "title": chance.random() < 0.15,
                    "abort": between(chance, 0.2, 12.0) if chance.random() < 0.06 else None,
                }
            )
            # Bursts of work, and long pauses between them.
            is_pause = chance.random() < 0.12
            now += between(chance, 1200.0, 9000.0) if is_pause else between(chance, 5.0, 600.0)
        sessions.append(
            {
                "name": f"s{number}",
                "is_plan": chance.random() < 0.4,
                "model": pick(chance, ("claude-opus-5-5", "claude-opus-5-5", "claude-haiku-4-5")),
                "turns": turns,
            }
        )
    return sessions


def _make_weather(chance: Random, hours: float, names: Sequence[str]) -> Event:
    # The primary has most of the bad weather; else no fallback would ever be needed.
    provider = PRIMARY if chance.random() < 0.55 else pick(chance, names)
    kinds = {
        name: kind.weight
        for name, kind in KINDS.items()
        if provider == PRIMARY or not kind.primary_only
    }
    kind = weighted(chance, kinds)
    event: dict[str, Any] = {
        "at": round(chance.random() * hours * 3600.0, 3),
        "kind": kind,
        "provider": provider,
        "for": between(chance, 20.0, KINDS[kind].longest),
    }
    if provider == PRIMARY and KINDS[kind].is_of_account and chance.random() < 0.6:
        event["person"] = "s0"
    if chance.random() < 0.3:
        event["share"] = round(0.2 + 0.6 * chance.random(), 2)
    return event


def _make_storm(chance: Random, hours: float, names: Sequence[str]) -> list[Event]:
    """Everybody fails at about the same time."""
    at = chance.random() * hours * 3600.0
    found: list[Event] = []
    for name in names:
        event = dict(_make_weather(chance, hours, [name]))
        if event["provider"] != name and KINDS[str(event["kind"])].primary_only:
            event["kind"] = "error-500"
        found.append({**event, "provider": name, "at": round(at + 60.0 * chance.random(), 3)})
    return found


def _make_trouble(chance: Random, hours: float, names: Sequence[str]) -> Event:
    kind = weighted(chance, MACHINE)
    event: dict[str, Any] = {"at": round(chance.random() * hours * 3600.0, 3), "kind": kind}
    match kind:
        case "offline" | "no-dns":
            event["for"] = between(chance, 2.0, 300.0)
            event["cut"] = chance.random() < 0.4
        case "sleep":
            event["seconds"] = between(chance, 60.0, 3600.0)
            event["cut"] = chance.random() < 0.3
        case "clock":
            seconds = between(chance, 5.0, 7200.0)
            event["seconds"] = -seconds if chance.random() < 0.5 else seconds
        case "disk-full":
            event["for"] = between(chance, 5.0, 1800.0)
        case "disk-slow":
            event["for"] = between(chance, 5.0, 600.0)
            event["delay"] = pick(chance, (0.05, 0.5, 3.0, 60.0))
        case "kill" | "restart":
            event["for"] = between(chance, 0.2, 5.0)
        case "second-server":
            event["for"] = between(chance, 60.0, 3600.0)
        case "edit":
            event["what"] = pick(chance, EDITS)
            event["for"] = between(chance, 30.0, 1800.0)
            event["provider"] = pick(chance, names)
            event["seconds"] = pick(chance, (15, 60))
            event["mode"] = pick(chance, ("eager", "cache", "auto"))
        case "reset" | "trip":
            event["provider"] = pick(chance, names)
            event["seconds"] = between(chance, 30.0, 1200.0)
    return event
