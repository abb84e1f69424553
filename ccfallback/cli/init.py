"""`ccfallback init`: from what this machine has to a chain that works.

It finds providers as `providers discover` does, and in the files of other programs; tests each;
adds those that answer, after the fallbacks that the configuration has already.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccfallback.addresses import address
from ccfallback.cli.console import Cell, Styled, Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import UNDO, join_names
from ccfallback.cli.running_server import find_registered_url
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError, ConfigError
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from ccfallback.cli.providers.discover import Proposal
    from ccfallback.config.edit import Document
    from ccfallback.config.model import Config

app = make_app()

FOREIGN_FILES: Final = (
    ("claude-code-router", ".claude-code-router/config.json"),
    ("cc-switch", ".cc-switch/cc-switch.db"),
    ("cc-switch", ".cc-switch/config.json"),
)
"""Where other programs keep their providers, below the home; the first file of each counts."""


@dataclass(slots=True)
class Candidate:
    """A provider that may be added."""

    name: str
    settings: dict[str, Any] = field(repr=False)
    found: str
    """What speaks for it, in a few words."""
    position: int | None = None
    """Its position among the fallbacks; `None` at the end."""
    works: bool | None = None
    """Whether it answered a small request; `None` if none was sent."""
    result: str = ""
    """That in words."""
    hint: str = ""


@app.command("init", epilog="Example: ccfallback init --yes")
def init(
    ctx: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Add what answers, without the question.")
    ] = False,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Send no request: add all that is complete.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set up a chain from what this machine has, and test it.

    Finds logins of clouds, keys, local models, and the providers of claude-code-router and
    cc-switch. Each gets a request of one token; those that answer are added after the fallbacks
    that are configured. Nothing else is changed. In a pipe, nothing is added without --yes.
    """
    session = session_of(ctx)
    console = session.console
    config = session.config(may_be_missing=True)
    notes: list[str] = []
    candidates = [*_find_foreign(session, config, notes)]
    candidates += _find_others(session, candidates, notes)
    wanted = yes
    if not as_json and candidates:
        console.emit({}, lambda: _table(session, config, candidates, "found"))
        for note in notes:
            console.say(note)
        if not yes and console.interactive:
            what = "Add" if no_test else "Test"
            count = pluralize(len(candidates), "provider")
            wanted = typer.confirm(f"{what} {count}?", default=True, err=True)
    if wanted and candidates and not no_test:
        _test(session, candidates)
    added = [each for each in candidates if wanted and each.works is not False]
    if added:
        session.edit(lambda document: _add(document, added))
    url = find_registered_url(session.paths)
    start = _find_start(session, is_up=url is not None)
    console.emit_result(
        {
            "config": str(session.paths.config),
            "candidates": [_json(each) for each in candidates],
            "added": [each.name for each in added],
            "notes": notes,
            "start": start,
        }
    )
    for line in _remarks(session, config, candidates, added, wanted=wanted):
        console.say(line)
    if url is None:
        console.say(f"start it with `{start}`")
    else:
        console.say(f"the server runs at {url}; send Claude Code there with `{start}`")


# -- What there is


def _find_foreign(session: Session, config: "Config", notes: list[str]) -> Iterator[Candidate]:
    """The providers of other programs' files, as far as they are not in the chain."""
    from ccfallback.cli.foreign import read, translate

    names = {*config.names}
    known = {address(each.base_url) for each in config.providers}
    seen: set[str] = set()
    for program, place in FOREIGN_FILES:
        path = Path.home() / place
        if program in seen or not path.is_file():
            continue
        seen.add(program)
        try:
            foreign = translate(program, read(program, path.read_bytes(), path))
        except (CcfallbackError, OSError) as error:
            notes.append(f"! {path} can't be used: {getattr(error, 'message', error)}")
            continue
        notes += [f"! {program}: not taken over: {each}" for each in foreign.omitted]
        for table in foreign.providers:
            try:
                provider = _check(session, [table])
            except ConfigError as error:
                notes.append(f"! {program}: {table['name']} is left as it is: {error.message}")
                continue
            if (where := address(provider.providers[0].base_url)) in known:
                continue
            known.add(where)
            name = _free_name(str(table["name"]), names)
            names.add(name)
            yield Candidate(name, {**table, "name": name}, f"{program}'s {path.name}")


def _find_others(
    session: Session, foreign: Sequence[Candidate], notes: list[str]
) -> list[Candidate]:
    """What `providers discover` finds besides, and could be added as it is."""
    from ccfallback.cli.providers import discover
    from ccfallback.cli.providers.facts import read_facts
    from ccfallback.cli.providers.options import settings

    config = _with(session, foreign)
    facts = read_facts(session.environ, session.now)
    found = []
    for each in discover.place_all(
        discover.find_everything(session, config, facts), session, config
    ):
        if each.can_be_added and each.finding.is_ready:
            table = {"name": each.name, **settings(each.finding)}
            found.append(Candidate(each.name, table, discover.describe_found(each), each.position))
        elif not each.in_chain:
            notes.append(_obstacle(each))
    return found


def _obstacle(proposal: "Proposal") -> str:
    """What is in the way of a provider of which this machine has a part."""
    finding = proposal.finding
    why = finding.problem or f"it needs {join_names(finding.missing)}"
    remedy = f"; run `{finding.renew}`" if finding.renew else ""
    return f"- {proposal.name}: {why}{remedy}"


def _check(session: Session, tables: Sequence[dict[str, Any]]) -> "Config":
    """The configuration that has only these providers. Raises `ConfigError`."""
    from ccfallback.cli.import_export import to_toml

    return session.config_file.check(to_toml({"providers": [*tables]}), numbered=False)


def _with(session: Session, candidates: "Iterable[Candidate]") -> "Config":
    """The configuration with these providers added."""
    from ccfallback.config.edit import Document

    document = Document(session.config_file.text())
    _add(document, candidates)
    return session.config_file.check(document.text, numbered=False)


def _add(document: "Document", candidates: "Iterable[Candidate]") -> None:
    from ccfallback.config.edit import ProviderChanges, add_provider

    for each in candidates:
        changes = {key: value for key, value in each.settings.items() if key != "name"}
        add_provider(document, each.name, ProviderChanges(changes), each.position)


def _free_name(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


# -- Whether it works


def _test(session: Session, candidates: Sequence[Candidate]) -> None:
    """Send each a request of one token for the model that Claude Code uses most."""
    from ccfallback.cli.doctor.diagnosis import ASKED_FOR
    from ccfallback.cli.providers.test import probe_providers

    config = _with(session, candidates)
    names = [each.name for each in candidates]
    chosen = [each for each in config.providers if each.name in names]
    results = probe_providers(session, config, chosen, ASKED_FOR[:1])
    for each in candidates:
        own = [result for result in results if result.provider == each.name]
        each.works = any(result.ok for result in own)
        best = next((result for result in own if result.ok), own[0])
        each.result, each.hint = best.message or "answers", "" if each.works else best.hint


# -- What is printed


def _table(
    session: Session, config: "Config", candidates: Sequence[Candidate], title: str
) -> Table:
    """The chain as it would be."""
    new = {each.name: each for each in candidates}
    rows: list[tuple[Cell, ...]] = []
    for number, provider in enumerate(_with(session, candidates).chain, 1):
        candidate = new.get(provider.name)
        why = "in the chain" if candidate is None else candidate.found
        sign = Styled("·", "dim") if candidate is None else Styled("+", "green")
        rows.append((sign, str(number), provider.name, why))
    return Table(rows, ("", "", "provider", title))


def _json(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "found": candidate.found,
        "position": candidate.position,
        "ok": candidate.works,
        "message": candidate.result or None,
        "hint": candidate.hint or None,
    }


def _remarks(
    session: Session,
    config: "Config",
    candidates: Sequence[Candidate],
    added: Sequence[Candidate],
    *,
    wanted: bool,
) -> Iterator[str]:
    for each in candidates:
        if each.works is not None:
            sign = "✓" if each.works else "✗"
            hint = f"; {each.hint}" if each.hint else ""
            yield f"{sign} {each.name}: {each.result}{hint}"
    existing = session.config_file.exists() or bool(added)
    if added:
        kept = " to the fallbacks that you have" if config.providers else ""
        yield f"{join_names([each.name for each in added])} added{kept}; {UNDO}"
    elif candidates and not wanted:
        yield "nothing was added; `ccfallback init --yes` tests and adds them"
    elif candidates:
        yield "none of them answers, so nothing was added; `--no-test` adds them all the same"
    elif config.has_fallback:
        yield f"nothing new was found; the chain stays {', '.join(config.names)}"
    else:
        yield (
            "no key, no cloud login and no local model was found: every request goes to Anthropic "
            "alone; `ccfallback providers presets` lists where to get a key"
        )
    if existing and added:
        yield f"the configuration is {session.paths.config}"


def _find_start(session: Session, *, is_up: bool) -> str:
    """The one line that starts Claude Code through the chain, or the server where that is down."""
    if shutil.which("claude", path=session.environ.get("PATH")) is not None:
        return "ccfallback run"
    return 'eval "$(ccfallback env)"' if is_up else "ccfallback serve --background"
