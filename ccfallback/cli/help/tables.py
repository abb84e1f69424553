"""The tables of help pages, each made from the part of the program that it describes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from inspect import cleandoc
from typing import Any, Final

import msgspec
import typer

from ccfallback.cli.console import EXIT_MEANINGS
from ccfallback.cli.help import commands
from ccfallback.cli.help.markup import Block, Entries, Entry, Heading, Items, Paragraph, sentence
from ccfallback.config.model import SECTIONS, Provider, Rectifiers, Token
from ccfallback.config.options import Option, options
from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.events.records import EVENTS


def table(name: str, argument: str) -> Iterable[Block]:
    """The table of that name."""
    return _TABLES[name](argument)


# -- The configuration


def _show(value: Any) -> str:
    """A value as the file says it."""
    if isinstance(value, Mapping):
        return "{}" if not value else str(dict(value))
    return msgspec.json.encode(value).decode()


def _option(row: Option) -> Entry:
    default = "" if row.default is None else f" = {_show(row.default)}"
    flag = f" [`{row.flag.replace('/', ', ')}`]" if row.flag else ""
    must = " Required." if row.required else ""
    return Entry(f"{row.path}{default}", f"{sentence(row.help)}{must}{flag}")


def _config(_: str) -> Iterator[Block]:
    quirks = {row.path for row in options(Quirks)}
    for name, kind in SECTIONS.items():
        if kind is Provider:
            continue
        rows = options(kind, deep=True)
        yield Heading(f"[{name}]", 3)
        yield Entries([_option(row) for row in rows])
        if kind is Rectifiers:
            yield Paragraph("And a switch for each repair, such as `media = false`.")
    yield Heading("[[providers]]", 3)
    yield Entries([_option(row) for row in options(Provider, deep=True) if row.path not in quirks])
    yield Paragraph("And the quirks; see `ccfallback help providers`.")
    yield Heading("[primary]", 3)
    names = [row.path for row in options(Provider, deep=True) if row.fallback_only]
    without = ", ".join(f"`{name}`" for name in names if name not in quirks)
    yield Paragraph(f"The same keys as `[[providers]]`, without {without} and the quirks.")
    yield Heading("[[tokens]]", 3)
    yield Entries([_option(row) for row in options(Token)])


def _quirks(_: str) -> Iterator[Block]:
    yield Entries([_option(row) for row in options(Quirks)])


def _presets(_: str) -> Iterator[Block]:
    entries = []
    for preset in presets().values():
        key = f", key in `{preset.key_env}`" if preset.key_env else ""
        note = f". {sentence(preset.note)}" if preset.note else "."
        entries.append(Entry(preset.name, f"{preset.title} ({preset.format}{key}){note}"))
    yield Entries(entries)


# -- Log and metrics


def _members(kind: type[msgspec.Struct]) -> str:
    return ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(kind))


def _events(_: str) -> Iterator[Block]:
    entries = []
    for name, kind in EVENTS.items():
        about = " ".join(cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
        members = _members(kind)
        data = f" Data: {members}." if members else ""
        entries.append(Entry(f"{name} ({kind.level})", f"{about}{data}"))
    yield Entries(entries)


def _metrics(_: str) -> Iterator[Block]:
    from ccfallback.server.metrics import COUNTERS, GAUGES, HISTOGRAMS

    for title, found in (("Counters", COUNTERS), ("Histograms", HISTOGRAMS), ("Gauges", GAUGES)):
        yield Heading(title, 3)
        entries = []
        for metric in found:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            shown = f" Labels: {labels}." if labels else ""
            entries.append(Entry(metric.name, f"{metric.help}{shown}"))
        yield Entries(entries)


def _process_metrics(_: str) -> Iterator[Block]:
    from ccfallback.server.metrics import PROCESS

    yield Items([f"`{name}`" for name in PROCESS])


# -- The command line


def _exit_codes(_: str) -> Iterator[Block]:
    yield Entries([Entry(str(int(code)), text) for code, text in EXIT_MEANINGS.items()])


def _commands(path: str) -> Iterator[Block]:
    """The commands below a command, or that command."""
    found = reduce(lambda command, name: commands.below(command)[name], path.split("-"), root())
    name = path.replace("-", " ")
    below = commands.below(found) or {"": found}
    yield Entries(
        [
            Entry(f"ccfallback {name} {verb}".rstrip(), commands.summary(each))
            for verb, each in below.items()
        ]
    )


def root() -> Any:
    """The root command."""
    from ccfallback.cli.root import app

    return typer.main.get_command(app)


_TABLES: Final[Mapping[str, Callable[[str], Iterable[Block]]]] = {
    "config": _config,
    "quirks": _quirks,
    "presets": _presets,
    "events": _events,
    "metrics": _metrics,
    "process_metrics": _process_metrics,
    "exit_codes": _exit_codes,
    "commands": _commands,
}
"""The tables by the name by which a page includes them."""
