"""`providers discover`: what this machine already has, as a proposed chain."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccfallback.addresses import address, is_local
from ccfallback.cli.console import Cell, Page, Styled, Table
from ccfallback.cli.options import Json
from ccfallback.cli.phrases import UNDO, join_names
from ccfallback.cli.providers.options import ROWS, settings
from ccfallback.cli.session import Session, session_of
from ccfallback.config.model import Config, Provider
from ccfallback.errors import ConfigError
from ccfallback.redact import mask_url, scrub
from ccfallback.words import did_you_mean

if TYPE_CHECKING:
    from ccfallback.cli.providers.facts import Facts
    from ccfallback.cli.providers.findings import Finding
    from ccfallback.config.edit import Document


@dataclass(frozen=True, slots=True)
class Proposal:
    """A finding, and its place in the chain."""

    finding: "Finding"
    name: str
    """The name that it would have in the chain."""
    in_chain: str = ""
    """The provider of the chain that it is already."""
    position: int | None = None
    """Its position among the fallbacks; `None` at the end."""
    is_valid: bool = True
    """Whether the configuration takes its settings."""

    @property
    def can_be_added(self) -> bool:
        """Whether all that is needed is known."""
        return self.is_valid and not self.in_chain and not self.finding.missing


def discover(
    ctx: typer.Context,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="NAME", help="Add what was found by that name; repeatable."),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="More names for --add.", hidden=True),
    ] = None,
    add_all: Annotated[
        bool, typer.Option("--add-all", help="Add all that was found and is complete.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find what this machine already has: logins, keys, local models.

    Looks at variables, the files of AWS, gcloud, az and Claude Code, and local ports. Prints a
    chain, the same Claude first, and the commands that add it.
    """
    if more and not add:
        raise typer.BadParameter("to add them, give --add", param_hint="NAME")
    session = session_of(ctx)
    config = session.config(may_be_missing=True)
    facts = _read_facts(session)
    proposals = place_all(find_everything(session, config, facts), session, config)
    added: list[str] = []
    if add:
        proposals = _choose([*add, *(more or ())], proposals)
    if add or add_all:
        added = _add(session, proposals)
    value: dict[str, Any] = {
        "providers": [describe(each, session) for each in proposals],
        "added": added,
        "notes": _notes(facts),
    }
    if add or add_all:
        session.console.emit_result(value)
        session.console.say(f"{join_names(added)} added; {UNDO}" if added else "nothing to add")
    else:
        session.console.emit(value, lambda: _page(session, proposals))
    lines = [*_remarks(proposals, added, is_adding=bool(add or add_all))]
    lines += [f"! {note}" for note in value["notes"]]
    if lines and session.console.is_terminal and not as_json:
        session.console.say("")
    for line in lines:
        session.console.say(line)


def _read_facts(session: Session) -> "Facts":
    from ccfallback.cli.providers.facts import read_facts

    return read_facts(session.environ, session.now)


def find_everything(session: Session, config: Config, facts: "Facts") -> "list[Finding]":
    """All findings, in the order of the chain."""
    from ccfallback.cli.providers import local_servers
    from ccfallback.cli.providers.findings import find_all, find_local
    from ccfallback.cli.running_server import configured_url, find_registered_url
    from ccfallback.config.presets import presets
    from ccfallback.credentials.fetch import Fetcher
    from ccfallback.server.trust import TrustedRoots

    ours = filter(None, (configured_url(config), find_registered_url(session.paths)))
    ports = local_servers.ports_to_ask(session.environ)
    for url in ours:
        ports = [port for port in ports if port != address(url).port]
    session.console.progress("asking local ports")
    fetch = Fetcher(TrustedRoots().load, lambda _url: None, local_servers.MOST_BYTES)
    servers = local_servers.find_servers(ports, fetch)
    session.console.progress("")
    local = sorted((find_local(presets(), each) for each in servers), key=_standing)
    return [*find_all(presets(), facts), *local]


def _standing(finding: "Finding") -> tuple[bool, bool]:
    return bool(finding.missing), bool(finding.problem)


# -- The place in the chain


def place_all(findings: "Iterable[Finding]", session: Session, config: Config) -> list[Proposal]:
    """The findings with their names and positions, as if each one had been added in turn."""
    chain = [(each.name, _rank(each)) for each in config.providers]
    names = {*config.names}
    proposals = []
    for finding in findings:
        try:
            provider = _provider(finding, session)
        except ConfigError:
            # The message is about a file that does not exist.
            problem = "what was found can't be a setting of a provider"
            proposals.append(
                Proposal(replace(finding, problem=problem, renew=""), finding.name, is_valid=False)
            )
            continue
        known = next((each.name for each in config.providers if _is_same(each, provider)), "")
        if known:
            proposals.append(Proposal(finding, known, in_chain=known))
            continue
        name = finding.name
        number = 2
        while name in names:
            name, number = f"{finding.name}-{number}", number + 1
        proposal = Proposal(finding, name)
        if proposal.can_be_added:
            names.add(name)
            before = [at for at, (_, rank) in enumerate(chain, 1) if rank <= finding.kind]
            at = max(before, default=0)
            if at < len(chain):
                proposal = replace(proposal, position=at + 1)
            chain.insert(at, (name, int(finding.kind)))
        proposals.append(proposal)
    return proposals


def _rank(provider: Provider) -> int:
    """The kind of a provider that is in the chain already, as in `findings.Kind`."""
    if provider.platform.serves_claude:
        return 0
    return 2 if is_local(provider.base_url) else 1


def _provider(finding: "Finding", session: Session) -> Provider | None:
    """The provider that a finding would be; `None` if something is missing.

    Raises `ConfigError` if the configuration does not take it.
    """
    from ccfallback.config.edit import Document, ProviderChanges, add_provider

    if finding.missing:
        return None
    document = Document("")
    add_provider(document, finding.name, ProviderChanges(settings(finding)))
    return session.config_file.check(document.text).providers[0]


def _is_same(known: Provider, found: Provider | None) -> bool:
    """Whether a provider of the chain leads to the same place."""
    if found is None:
        return False
    return address(known.base_url) == address(found.base_url)


# -- What is printed


def add_options(proposal: Proposal) -> list[str] | None:
    """The options of `providers add` for it; `None` if no option gives it, or would show a key."""
    finding = proposal.finding
    rows = {row.path: row for row in ROWS if row.key != "api_key"}
    url = finding.given.get("base_url", "")
    if not finding.given.keys() <= rows.keys() or mask_url(url) != url:
        return None
    preset = finding.preset.name
    # With a URL, a name is only a name.
    is_named = proposal.name == preset and "base_url" not in finding.given
    words = [] if is_named else ["--preset", preset]
    for key, value in finding.given.items():
        pairs = value.items() if isinstance(value, Mapping) else ()
        words += [word for name, item in pairs for word in (rows[key].flag, f"{name}={item}")]
        words += [] if isinstance(value, Mapping) else [rows[key].flag, str(value)]
    words += [word for item in finding.fill.items() for word in ("--fill", "=".join(item))]
    return words if proposal.position is None else [*words, "--position", str(proposal.position)]


def command(proposal: Proposal, session: Session) -> str:
    """The command that adds it, ready to be pasted; empty if something is missing."""
    if not proposal.can_be_added:
        return ""
    options = add_options(proposal)
    words = ["discover", "--add", proposal.name]
    if options is not None:
        words = ["add", proposal.name, *options]
    # The console adds the options for our files to a command between backticks.
    quoted = session.console.add_file_options(
        f"`ccfallback providers {' '.join(map(quote, words))}`"
    )
    return quoted.strip("`")


def describe(proposal: Proposal, session: Session) -> dict[str, Any]:
    """A finding for JSON: without any secret."""
    finding = proposal.finding
    return {
        "name": proposal.name,
        "preset": finding.preset.name,
        "title": finding.preset.title,
        "kind": finding.kind.name.lower(),
        "found": list(_found(finding)),
        "ready": finding.is_ready,
        "problem": finding.problem or None,
        "remedy": scrub(finding.renew) or None,
        "missing": list(finding.missing),
        "note": finding.note or None,
        "in_chain": proposal.in_chain or None,
        "position": proposal.position,
        "command": command(proposal, session) or None,
    }


def describe_found(proposal: Proposal) -> str:
    """What speaks for it, in a few words."""
    return ", ".join(_found(proposal.finding))


def _found(finding: "Finding") -> Iterable[str]:
    if finding.credential:
        yield finding.credential
    yield from (f"{name} {value.text}" for name, value in finding.values.items() if name != "URL")
    yield from finding.why


def _page(session: Session, proposals: Sequence[Proposal]) -> Page:
    if not proposals:
        return (
            "Nothing found: no cloud login, no key in the environment, no local model server.\n"
            "Presets of providers that need only a key: ccfallback providers presets"
        )
    rows: list[tuple[Cell, ...]] = [
        (each.name, describe_found(each), _state(each)) for each in proposals
    ]
    parts: list[Table | str] = [Table(rows, ("name", "found", "state"))]
    commands = [text for each in proposals if (text := command(each, session))]
    if commands:
        parts.append("\n".join(commands))
    return parts


def _state(proposal: Proposal) -> Cell:
    finding = proposal.finding
    if proposal.in_chain:
        return Styled("- in the chain", "dim")
    if finding.missing:
        return Styled("✗ incomplete", "yellow")
    return Styled("✗ not ready", "yellow") if finding.problem else Styled("✓ ready", "green")


def _remarks(
    proposals: Sequence[Proposal], added: Sequence[str], *, is_adding: bool
) -> Iterator[str]:
    """What is to be done or known, a line for each."""
    from ccfallback.cli.providers.findings import run

    for proposal in proposals:
        finding, name = proposal.finding, proposal.name
        if finding.problem:
            yield f"{name}: {finding.problem}{run(finding)}"
        if proposal.in_chain:
            if is_adding:
                yield f"{name} is in the chain already"
            continue
        if finding.missing:
            known = " ".join(map(quote, add_options(proposal) or ()))
            options = " ".join(filter(None, (name, known, *finding.missing)))
            yield f"{name}: to add it, `ccfallback providers add {options}`"
        if finding.note:
            yield f"{name}: {finding.note}"
    if is_adding and added:
        yield "send each a small request: `ccfallback providers test`"
    elif any(each.can_be_added for each in proposals):
        yield "add them all: `ccfallback providers discover --add-all`"


def _notes(facts: "Facts") -> list[str]:
    """What is to be known of the machine."""
    from ccfallback.cli.providers.findings import switches_on

    past = [
        f"Claude Code goes to {name} by itself, and not through ccfallback, while "
        f"{value.source.removeprefix('$')} is set"
        for name, value in switches_on(facts)
    ]
    return [*past, *facts.unreadable]


# -- What is added


def _choose(names: Sequence[str], proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals of these names; what can't be added is an error."""
    known = {each.name: each for each in proposals}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"nothing was found by the name {name}",
                did_you_mean(name, known) or "`ccfallback providers discover` lists what was found",
            )
        if not known[name].is_valid:
            raise ConfigError(f"{name} can't be added: {known[name].finding.problem}")
        if missing := known[name].finding.missing:
            options = " ".join([name, *(add_options(known[name]) or ()), *missing])
            raise ConfigError(
                f"{name} needs what only you know: {' and '.join(missing)}",
                f"`ccfallback providers add {options}`",
            )
    return [each for each in proposals if each.name in names]


def _add(session: Session, proposals: Sequence[Proposal]) -> list[str]:
    """Add those that are not in the chain yet and complete, in one change; returns their names."""
    from ccfallback.config.edit import ProviderChanges, add_provider

    chosen = [each for each in proposals if each.can_be_added]

    def write(document: "Document") -> None:
        for each in chosen:
            changes = ProviderChanges(settings(each.finding))
            add_provider(document, each.name, changes, each.position)

    if chosen:
        session.edit(write)
    return [each.name for each in chosen]
