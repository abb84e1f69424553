"""`ccfallback spend`: what the answers have cost, from the ledger, and what is left of caps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccfallback.cli.console import Cell, Table
from ccfallback.cli.options import Json, make_app, parse_since
from ccfallback.cli.phrases import format_count, join_names, wrap_text
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError
from ccfallback.printable import printable
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from ccfallback.state.ledger import Row

app = make_app()

MOST_ROWS: Final = 40
"""Rows on a screen; the others are added up in a last one. JSON has all of them."""

UNKNOWN: Final = "unknown"


class By(StrEnum):
    """What the answers are grouped by."""

    DAY = "day"
    PROVIDER = "provider"
    MODEL = "model"
    SESSION = "session"
    TOKEN = "token"


@dataclass(slots=True)
class Total:
    """What some answers have cost; money in nano-dollars."""

    answers: int = 0
    cost: int = 0
    unknown: int = 0
    """Answers whose price is unknown."""
    by_plan: int = 0
    """Answers that a plan has paid for."""
    listed: int = 0
    """The list price of those, as far as it is known."""
    estimated: int = 0
    tokens: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0)
    )

    def add(self, row: "Row") -> None:
        """Add an answer."""
        from ccfallback.policy.spend import NANO

        self.answers += 1
        self.cost += row.nano
        self.unknown += row.is_unknown
        self.by_plan += row.plan
        self.listed += round(row.listed * NANO) if row.listed else 0
        self.estimated += row.estimated
        self.tokens["input"] += row.input
        self.tokens["output"] += row.output
        self.tokens["cacheRead"] += row.cache_read
        self.tokens["cacheWrite"] += row.cache_write + row.cache_write_1h

    def merge(self, other: "Total") -> None:
        """Add all that another one has counted."""
        for name in ("answers", "cost", "unknown", "by_plan", "listed", "estimated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for kind, count in other.tokens.items():
            self.tokens[kind] += count

    @property
    def is_unknown(self) -> bool:
        """Whether no price of it is known."""
        return self.unknown == self.answers > 0

    def to_json(self) -> dict[str, Any]:
        """The numbers for `--json`: US dollars."""
        from ccfallback.state.ledger import to_dollars

        return {
            "answers": self.answers,
            "cost": None if self.is_unknown else to_dollars(self.cost),
            "unknown": self.unknown,
            "byPlan": self.by_plan,
            "listed": to_dollars(self.listed),
            "estimated": self.estimated,
            "tokens": self.tokens,
        }


@app.command(
    "spend", epilog="Example: ccfallback spend --since 7d\nccfallback spend --by model --json"
)
def spend(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="The window: the last 24h, 7d, 30d.")
    ] = "30d",
    by: Annotated[By, typer.Option("--by", help="What the answers are grouped by.")] = By.DAY,
    as_json: Json = False,
) -> None:
    """Show what the answers have cost, and what is left of caps.

    Everything is read from the ledger next to the state file. Days are those of this machine's
    calendar. A price that is not known is not counted.
    """
    from ccfallback.cli.caps import describe_cap, find_limits, limit_json
    from ccfallback.config import prices
    from ccfallback.state.ledger import rows_since

    session = session_of(ctx)
    config, now = session.say_config_in_use(needs_server=False), session.now()
    seconds, since = parse_since(session, since)
    start = now - seconds
    groups: dict[str, Total] = {}
    models: set[str] = set()
    total = Total()
    try:
        for row in rows_since(session.paths.state, start):
            total.add(row)
            groups.setdefault(_key(row, by), Total()).add(row)
            if row.is_unknown:
                models.add(row.mapped or row.model)
    except OSError as error:
        raise CcfallbackError(
            f"the ledger can't be read: {error.strerror or error}",
            f"check the files spend-*.jsonl in {session.paths.state.parent}",
        ) from None
    ordered = _order(groups, by)
    limits = find_limits(session, config, now)
    value = {
        "since": round(start * 1000),
        "until": round(now * 1000),
        "by": by.value,
        "currency": "USD",
        "prices": str(prices.load()["date"]),
        "total": total.to_json(),
        "groups": [{by.value: name or None, **each.to_json()} for name, each in ordered],
        "unknownModels": sorted(models),
        "caps": [limit_json(limit) for limit in limits],
    }

    def page() -> list[Table | str]:
        parts: list[Table | str] = [_headline(total, since)]
        if ordered:
            parts.append(_table(ordered, by))
        notes = [*_notes(total, models), *(describe_cap(limit, now) for limit in limits)]
        text = "\n".join(wrap_text(note, session.console.width) for note in notes)
        return [*parts, text] if notes else parts

    session.console.emit(value, page)


def _key(row: "Row", by: By) -> str:
    from ccfallback.state.ledger import day_of

    match by:
        case By.DAY:
            return day_of(row.at)
        case By.PROVIDER:
            return row.provider
        case By.MODEL:
            return row.mapped or row.model
        case By.SESSION:
            return row.session
        case By.TOKEN:
            return row.token


def _order(groups: dict[str, Total], by: By) -> list[tuple[str, Total]]:
    """Days from the last one back, everything else by its cost."""
    if by is By.DAY:
        return sorted(groups.items(), reverse=True)
    return sorted(groups.items(), key=lambda it: (-it[1].cost, -it[1].listed, it[0]))


def _headline(total: Total, since: str) -> str:
    from ccfallback.config import prices
    from ccfallback.policy.spend import dollars

    if not total.answers:
        return f"last {since}: no answer is in the ledger"
    cost = "price unknown" if total.is_unknown else dollars(total.cost)
    if total.unknown and not total.is_unknown:
        cost += f" and {total.unknown:,} of unknown price"
    answers, date = pluralize(total.answers, "answer"), prices.load()["date"]
    return f"last {since}: {cost}, {answers}; list prices of {date}"


def _table(ordered: Sequence[tuple[str, Total]], by: By) -> Table:
    shown, rest = ordered[:MOST_ROWS], ordered[MOST_ROWS:]
    rows = [_row(printable(name) or f"no {by.value}", each) for name, each in shown]
    if rest:
        others = Total()
        for _, each in rest:
            others.merge(each)
        rows.append(_row(f"{len(rest)} more", others))
    header = (by.value, "answers", "cost", "by plan", "in", "cached", "out")
    return Table(rows, header, frozenset(range(1, len(header))))


def _row(name: str, total: Total) -> tuple[Cell, ...]:
    from ccfallback.policy.spend import dollars

    cost = UNKNOWN if total.is_unknown else dollars(total.cost)
    if total.unknown and not total.is_unknown:
        cost = f"{cost} + ?"
    tokens = total.tokens
    prompt = sum(tokens.values()) - tokens["output"]
    share = f"{tokens['cacheRead'] / prompt * 100:.0f} %" if prompt else "-"
    return (
        name,
        f"{total.answers:,}",
        cost,
        f"({dollars(total.listed)})" if total.by_plan else "-",
        format_count(prompt),
        share,
        format_count(tokens["output"]),
    )


def _notes(total: Total, models: Iterable[str]) -> list[str]:
    from ccfallback.policy.spend import dollars

    notes = []
    if total.by_plan:
        answers = pluralize(total.by_plan, "answer")
        listed = f"{dollars(total.listed)} at list price"
        notes.append(f"your plan has paid for {answers}: {listed}")
    if total.unknown:
        answers = pluralize(total.unknown, "answer")
        names = join_names([printable(name) or "no model" for name in sorted(models)][:5])
        notes.append(
            f"price unknown, not counted: {answers} of {names}; "
            "`ccfallback config set providers.NAME.prices.input 3.0` gives a provider its prices"
        )
    if total.estimated:
        answers = pluralize(total.estimated, "answer")
        notes.append(f"torn or stopped, so estimated: {answers}")
    return notes
