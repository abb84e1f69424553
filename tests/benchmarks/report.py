"""What was measured, as a table, as bars and as JSON; and two of them side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

BAR: Final = 30


@dataclass
class Figure:
    """One thing that was measured."""

    name: str
    unit: str
    values: dict[str, float] = field(default_factory=dict)
    """By subject."""
    times_nginx: float | None = None
    """ccfallback's value by nginx's, where there is an nginx."""
    target: float | None = None
    """For the ratio where `of_ratio`, else for ccfallback's value."""
    of_ratio: bool = False
    more: bool = False
    """Whether more is better."""

    @classmethod
    def ratio(
        cls,
        name: str,
        found: Mapping[str, Mapping[str, float]],
        key: str,
        unit: str,
        target: float | None = None,
        *,
        more: bool = False,
    ) -> "Figure":
        """A figure of which the ratio to nginx counts."""
        figure = cls.value(name, found, key, unit, target, more=more)
        figure.of_ratio = True
        return figure

    @classmethod
    def value(
        cls,
        name: str,
        found: Mapping[str, Mapping[str, float]],
        key: str,
        unit: str,
        target: float | None = None,
        *,
        more: bool = False,
    ) -> "Figure":
        """A figure that counts by itself."""
        values = {subject: mine[key] for subject, mine in found.items()}
        nginx = values.get("nginx")
        times = values["ccfallback"] / nginx if nginx else None
        return cls(name, unit, values, times, target, more=more)

    @classmethod
    def single(cls, name: str, value: float, unit: str, target: float | None = None) -> "Figure":
        """A figure of ccfallback alone."""
        return cls(name, unit, {"ccfallback": value}, target=target)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; `None` where there is none, or nothing to compare with."""
        counts = self.times_nginx if self.of_ratio else self.values["ccfallback"]
        if self.target is None or counts is None:
            return None
        return counts >= self.target if self.more else counts <= self.target


def shown(value: float | None) -> str:
    """A number, short."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """All figures, ratios first in each line."""
    rows: list[tuple[str, ...]] = [
        ("", "x nginx", "target", "", "unit", "ccfallback", "nginx", "direct")
    ]
    for each in figures:
        sign = {True: "met", False: "MISSED", None: ""}[each.met]
        limit = "" if each.target is None else f"{'≥' if each.more else '≤'} {shown(each.target)}"
        if each.target is not None and not each.of_ratio:
            limit += f" {each.unit}"
        values = [shown(each.values.get(name)) for name in ("ccfallback", "nginx", "direct")]
        rows.append((each.name, shown(each.times_nginx), limit, sign, each.unit, *values))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def medians(runs: Sequence[Sequence[Figure]]) -> list[Figure]:
    """Each figure's median over several runs."""
    by_name: dict[str, list[Figure]] = {}
    for figure in (figure for run in runs for figure in run):
        by_name.setdefault(figure.name, []).append(figure)
    found = []
    for same in by_name.values():
        values = {name: median(each.values[name] for each in same) for name in same[0].values}
        ratios = [each.times_nginx for each in same if each.times_nginx is not None]
        times = median(ratios) if ratios else None
        found.append(replace(same[0], values=values, times_nginx=times))
    return found


SUMMARY: Final = {
    "added p50, 2 kB": "added to a request of 2 kB",
    "added p50, 2 kB, failover after a 429": "with a failover after a 429",
    "CPU a request, 2 kB, 16 at once": "CPU of a request",
    "event age p50, 64 streams of 100 events a second": "age of a stream's event",
    "start to first answer": "start to first answer",
    "memory, idle": "memory",
}
"""The figures in the README, and what they are called there."""


def summary(figures: Sequence[Figure], machine: Mapping[str, Any], runs: int) -> str:
    """The main figures as a Markdown table, whose head tells what they were measured on."""
    chosen = [(name, each) for each in figures if (name := SUMMARY.get(each.name))]
    named = {subject for _, each in chosen for subject in each.values}
    subjects = [each for each in ("ccfallback", "nginx") if each in named]
    rows = [[name, *(_with_unit(each, one) for one in subjects)] for name, each in chosen]
    of = f", median of {runs} runs" if runs > 1 else ""
    about = f"{machine['cpu']}, Python {machine['python']}{of}"
    return markdown([[about, *subjects], *rows]) if rows else ""


def _with_unit(figure: Figure, subject: str) -> str:
    value = figure.values.get(subject)
    return "" if value is None else f"{shown(value)} {figure.unit}".strip()


def definitions(figures: Sequence[Figure]) -> str:
    """All figures as a list of definitions, as the help page has them."""
    found = []
    for figure in figures:
        text = _with_unit(figure, "ccfallback")
        if nginx := _with_unit(figure, "nginx"):
            text += f"; nginx {nginx}, ratio {shown(figure.times_nginx)}"
        found.append(f"{figure.name}\n: {text}.")
    return "\n\n".join(found)


def plot(figures: Sequence[Figure]) -> str:
    """The ratios to nginx as bars, with a mark where the target is."""
    drawn = [each for each in figures if each.times_nginx is not None and each.of_ratio]
    if not drawn:
        return ""
    width = max(len(each.name) for each in drawn)
    lines = ["x nginx (| is the target)"]
    for each in drawn:
        ratio = each.times_nginx or 0.0
        scale = max(ratio, each.target or 0.0) or 1.0
        length = round(ratio / scale * BAR)
        bar = list("█" * length + " " * (BAR + 1 - length))
        if each.target is not None:
            bar[min(BAR, round(each.target / scale * BAR))] = "|"
        lines.append(f"{each.name:<{width}}  {''.join(bar)} {shown(ratio)}")
    return "\n".join(lines)


def write(path: Path, figures: Sequence[Figure], machine: Mapping[str, Any]) -> None:
    """Keep the figures."""
    document = {"machine": machine, "figures": [asdict(each) for each in figures]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


def read(path: Path) -> dict[str, Figure]:
    """Kept figures, by name."""
    found = msgspec.json.decode(path.read_bytes())["figures"]
    return {each["name"]: Figure(**each) for each in found}


def comparison(before: Path, after: Path) -> str:
    """Two kept runs side by side: ccfallback's values, and how the second is to the first."""
    old, new = read(before), read(after)
    rows = [("", before.name, after.name, "change")]
    for name, figure in new.items():
        if name not in old:
            continue
        was, now = old[name].values["ccfallback"], figure.values["ccfallback"]
        change = f"{(now / was - 1) * 100:+.0f} %" if was else ""
        rows.append((f"{name} [{figure.unit}]", shown(was), shown(now), change))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
