"""`drill --live`: does every provider take a real request of Claude Code's shape?"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ccfallback.cli.chain_check import chain_summary, describe_check, summary_json
from ccfallback.cli.console import Cell, ExitCode, Styled, Table
from ccfallback.cli.doctor.diagnosis import Trouble, models_for, remedy, trouble
from ccfallback.cli.doctor.probe import NO_LOGIN, collect_evidence, find_login
from ccfallback.cli.phrases import format_latency, join_names
from ccfallback.cli.providers.test import find_listener
from ccfallback.cli.session import Session, require
from ccfallback.config.model import Config, Provider
from ccfallback.errors import CcfallbackError
from ccfallback.policy.spend import NANO, dollars
from ccfallback.server import check
from ccfallback.server.breakers import Breakers
from ccfallback.server.credentials import Keys
from ccfallback.server.live_config import FixedConfig, LiveConfig
from ccfallback.server.record import Recorder
from ccfallback.server.services import Services
from ccfallback.server.spending import Spending
from ccfallback.server.upstream import Upstreams
from ccfallback.state.checks import Check
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from ccfallback.addresses import Address

ONLY_BY_WISH = "not checked: a request could begin a window of its plan; --primary asks it"


class Checked(NamedTuple):
    """What became of one provider."""

    provider: Provider
    model: str
    check: Check | None
    """`None` if it was not asked."""
    message: str
    hint: str


def run(session: Session, names: Sequence[str], *, primary: bool) -> None:
    """Check the named providers, or all enabled ones, and show the results."""
    console, config = session.console, session.say_config_in_use()
    require(names, config.names)
    chosen = [each for each in config.chain if (each.name in names if names else not each.disabled)]
    if not chosen:
        raise CcfallbackError("no provider is enabled", "enable one: `ccfallback providers enable`")
    usual = [name for name in (session.environ.get("ANTHROPIC_MODEL"), check.USUAL_MODEL) if name]
    questions = [(each, models_for(each, (), usual)[0]) for each in chosen]
    listener = find_listener(session, config)
    found, estimate = asyncio.run(_check(session, config, questions, listener, primary=primary))
    console.progress("")
    asked = [each.check for each in found if each.check is not None]
    costs = [each.cost for each in asked]
    known = [each for each in costs if each is not None]
    ok = all(each.ok for each in asked)
    summary = chain_summary(session.store.peek().sections, config)
    value = {
        "ok": ok,
        "estimate": estimate,
        "cost": round(sum(known), 6),
        "costUnknown": len(costs) - len(known),
        "results": [_result_json(each) for each in found],
        "chain": summary_json(summary),
    }
    console.emit(value, lambda: _table(found))
    for each in found:
        if each.hint:
            console.say(f"{each.provider.label}: {each.hint}")
    spent = f"it has cost {_money(sum(known))}"
    if None in costs:
        spent += f", and the price of {pluralize(len(costs) - len(known), 'answer')} is unknown"
    console.say("; ".join(filter(None, [describe_check(summary, session.now()), spent])))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


async def _check(
    session: Session,
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    listener: "Address | None",
    *,
    primary: bool,
) -> tuple[list[Checked], float | None]:
    recorder = Recorder(None)
    upstreams = Upstreams(config.network)
    breakers = Breakers(session.store, recorder, session.now)
    services = Services(
        live=LiveConfig(FixedConfig(config), recorder),
        breakers=breakers,
        recorder=recorder,
        upstreams=upstreams,
        spending=Spending(session.paths.state, recorder, session.now),
        keys=Keys(upstreams.make_fetch, environ=session.environ),
        listener=listener,
    )
    breakers.configure(config)
    services.spending.configure(config)
    try:
        await breakers.refresh()
        await services.spending.refresh()
        return await _ask_all(session, services, config, questions, primary=primary)
    finally:
        services.keys.close()
        await breakers.flush(again=True)
        breakers.close()
        await asyncio.to_thread(services.spending.close)
        await upstreams.aclose()


async def _ask_all(
    session: Session,
    services: Services,
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    *,
    primary: bool,
) -> tuple[list[Checked], float | None]:
    login = find_login(session.environ, config.token_bytes)
    found: list[Checked] = []
    asked: list[tuple[Provider, str]] = []
    for provider, model in questions:
        if not await check.is_login(services, provider):
            asked.append((provider, model))
        elif not primary:
            found.append(Checked(provider, model, None, ONLY_BY_WISH, ""))
        elif not provider.has_credential and not login:
            hint = "set ANTHROPIC_API_KEY for the check, or see what `ccfallback logs tail` says"
            found.append(Checked(provider, model, None, NO_LOGIN, hint))
        else:
            asked.append((provider, model))
    table = services.spending.table
    prices = [check.estimate_dollars(*question, table) for question in asked]
    estimate = None if None in prices else round(sum(filter(None, prices)), 6)
    names = join_names([provider.name for provider, _ in asked])
    if asked:
        about = "at an unknown price" if estimate is None else f"for about {_money(estimate)}"
        session.console.say(f"one small request to {names}, {about} (prices of {table.date})")
    for number, (provider, model) in enumerate(asked, 1):
        session.console.progress(f"{number} of {len(asked)}: {provider.name}")
        made, result = await check.check(services, config, provider, model, login)
        hint = ""
        if result is not None:
            evidence = collect_evidence(provider, model, result)
            hint = "" if trouble(evidence) is Trouble.NONE else remedy(evidence)
        found.append(Checked(provider, model, made, made.message, hint))
    order = [provider.name for provider, _ in questions]
    return sorted(found, key=lambda each: order.index(each.provider.name)), estimate


def _result_json(found: Checked) -> dict[str, Any]:
    made = found.check
    return {
        "provider": found.provider.name,
        "model": found.model,
        "mapped_to": found.provider.model_for(found.model),
        "checked": made is not None,
        "ok": made is not None and made.ok,
        "status": None if made is None else made.status,
        "seconds": None if made is None else made.seconds,
        "cost": None if made is None else made.cost,
        "repairs": [] if made is None else made.repairs,
        "message": found.message,
        "hint": found.hint,
    }


def _table(found: Sequence[Checked]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for provider, model, made, message, _ in found:
        mapped = provider.model_for(model)
        shown = model if mapped == model else f"{model} → {mapped}"
        if made is None:
            rows.append((provider.name, shown, Styled(f"- {message}", "dim"), "", ""))
            continue
        repaired = f", after {join_names(made.repairs)}" if made.repairs else ""
        verdict = (
            Styled(f"✓ {made.status} answers{repaired}", "green")
            if made.ok
            else Styled(f"✗ {message}", "red")
        )
        cost = "?" if made.cost is None else _money(made.cost)
        rows.append((provider.name, shown, verdict, format_latency(made.seconds), cost))
    return Table(rows, ("provider", "model", "result", "time", "cost"))


def _money(amount: float) -> str:
    return dollars(round(amount * NANO))
