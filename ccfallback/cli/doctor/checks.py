"""The checks of `doctor`: functions that take a `DoctorContext` and yield findings."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ccfallback import __version__, files
from ccfallback.addresses import bare_url, is_loopback
from ccfallback.cli.chain import describe_missing_key
from ccfallback.cli.doctor.caps import caps
from ccfallback.cli.doctor.chain import chain
from ccfallback.cli.doctor.context import (
    DoctorContext,
    Finding,
    Severity,
    error,
    good,
    problem,
    warning,
)
from ccfallback.cli.env import BASE_URL, find_capturing_proxy, find_tokens, leads_to
from ccfallback.cli.phrases import format_ago, format_ahead, format_latency, join_names
from ccfallback.cli.providers.findings import PLACES
from ccfallback.config.file import DraftFile
from ccfallback.events.journal_reader import numbered, rotations
from ccfallback.policy.breaker import CLOSED, Limits, Phase, as_next, phase, valid_states
from ccfallback.state.file import set_aside_files

if TYPE_CHECKING:
    from ccfallback.config.model import Config

VARIABLE: Final = "CCFALLBACK_CONFIG"

LEAST_FREE: Final = 16 * 1024 * 1024
"""Bytes; with less, the next write may fail."""

CLOCK_SLACK: Final = 60.0
"""Seconds that a past event may seem to lie in the future before the clock is suspected."""

SHORT_TOKEN: Final = 16
"""Characters; a shorter access token may be guessed."""

POINT_HERE: Final = '`ccfallback run`, or in the shell of Claude Code: `eval "$(ccfallback env)"`'


# -- The program and its files


def version(context: DoctorContext) -> Iterator[Finding]:
    """Which version this is, and whether the running server has the same."""
    about = f"ccfallback {__version__}, Python {platform.python_version()} ({sys.executable})"
    server = context.server
    if server is not None and server.version != __version__:
        message = f"{about}; the running server (pid {server.pid}) is {server.version}"
        yield warning("version", message, "restart the server")
    else:
        yield good("version", about)


def config(context: DoctorContext) -> Iterator[Finding]:
    """Whether the configuration loads; if not, which earlier version does."""
    file = context.session.config_file
    fault = context.config_error
    if fault is None:
        if file.stamp() is not None:
            yield good("config", f"{file.path} loads")
        elif context.session.is_config_missing or context.session.environ.get(VARIABLE):
            message = f"{file.path} does not exist although it was named; the defaults apply"
            remedy = f"check --config and {VARIABLE}; the first change creates the file"
            serious = context.session.is_config_missing
            yield problem("config", message, remedy, serious=serious)
        else:
            yield good("config", f"{file.path} does not exist; the defaults apply")
        return
    last = file.last_good()
    back = (
        "no earlier version loads; `ccfallback config reset` starts over"
        if last is None
        else f"or `ccfallback config rollback {last.number}` restores the last version that loads, "
        f"last used {format_ago(last.time, context.now)}"
    )
    yield error("config", fault.message, f"{fault.hint or 'fix it'}; {back}")


def permissions(context: DoctorContext) -> Iterator[Finding]:
    """Whether other users can read our files."""
    paths = context.session.paths
    history = [version.path for version in context.session.config_file.versions()]
    draft = DraftFile(paths.config).path
    logs = [numbered(paths.log, number) for number in (0, *rotations(paths.log))]
    records = [paths.state, *set_aside_files(paths.state), *logs]
    found = [
        *((path, Severity.ERROR) for path in files.find_exposed([paths.config, draft, *history])),
        *((path, Severity.WARNING) for path in files.find_exposed(records)),
    ]
    for path, severity in found:
        if context.fix and _make_private(path):
            yield good("permissions", f"{path} is private now; other users could open it")
            continue
        content = "holds keys" if severity is Severity.ERROR else "describes your requests"
        message = f"{path} {content}, and other users of this machine can open it"
        remedy = f"`ccfallback doctor --fix`, or `chmod 600 {path}`"
        yield Finding("permissions", severity, message, remedy)
    if not found:
        yield good("permissions", "the files are private")


def _make_private(path: Path) -> bool:
    try:
        path.chmod(files.PRIVATE_FILE)
    except OSError:
        return False
    return True


def state(context: DoctorContext) -> Iterator[Finding]:
    """Whether the breaker state can be read and written."""
    path, store = context.session.paths.state, context.session.store
    fault = store.peek().problem
    if (unusable := context.state_error) is not None:
        yield error("state", unusable.message, unusable.hint)
    elif store.places is not None:
        if fault is None:
            yield good("state", f"{store.name} answers")
        else:
            remedy = "start it, or correct it: `ccfallback config set state.url URL`"
            yield error("state", f"{fault}; each server goes on with what it knows", remedy)
    elif fault is not None:
        remedy = f"`ccfallback breaker status` moves it aside and starts a new one; or `rm {path}`"
        if files.find_lock_out(path):
            remedy = "check its permissions, or name another file with --state"
        yield error("state", f"{path} counts as empty: {fault}", remedy)
    elif (why := _write_obstacle(path)) is not None:
        remedy = "check its permissions, or name another file with --state"
        yield error("state", f"{path} can't be written: {why}", remedy)
    else:
        yield good("state", f"{path} {'is good' if _exists(path) else 'does not exist yet'}")
    for aside in set_aside_files(path):
        message = f"a state file that could not be read was moved to {aside}"
        yield warning("state", message, f"look at it, then remove it: `rm {aside}`")


def log(context: DoctorContext) -> Iterator[Finding]:
    """Whether the log can be written."""
    path = context.session.paths.log
    why = _write_obstacle(path)
    if why is None:
        yield good("log", f"{path} can be written")
    else:
        remedy = "check its permissions, or name another file with --log-file"
        yield error("log", f"{path} can't be written: {why}", remedy)


def disk(context: DoctorContext) -> Iterator[Finding]:
    """Whether there is enough space for the log at its largest."""
    paths = context.session.paths
    needed = LEAST_FREE
    if context.config is not None:
        needed += context.config.log.max_bytes * (context.config.log.backups + 1)
    folders = {_nearest_existing(path.parent) for path in (paths.config, paths.state, paths.log)}
    free = {folder: shutil.disk_usage(folder).free for folder in folders}
    folder = min(free, key=lambda each: free[each])
    if free[folder] >= needed:
        yield good("disk", f"{_megabytes(free[folder])} free")
        return
    yield problem(
        "disk",
        f"{_megabytes(free[folder])} free at {folder}; the log may need {_megabytes(needed)}",
        "free some space, or lower log.max_bytes: `ccfallback config set log.max_bytes 1000000`",
        serious=free[folder] < LEAST_FREE,
    )


def _write_obstacle(path: Path) -> str | None:
    """Why a file can't be written, as far as can be seen without writing it."""
    target = files.real(path)
    if _exists(target) and not target.is_file() and not target.is_char_device():
        return "it is not a file"
    nearest = _nearest_existing(target.parent)
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"you may not write to {nearest}"
    if _exists(target) and not os.access(target, os.W_OK):
        return "its permissions do not allow it"
    return None


def _nearest_existing(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    return next(each for each in (path, *path.parents) if _exists(each) or each == each.parent)


def _exists(path: Path) -> bool:
    """Whether the path exists, as far as this user can see."""
    return os.access(path, os.F_OK)


def _megabytes(count: int) -> str:
    return f"{count / 1e9:,.0f} GB" if count >= 10e9 else f"{count / 1e6:,.0f} MB"


# -- The chain


def fallbacks(context: DoctorContext) -> Iterator[Finding]:
    """Whether there is a provider to use when the primary fails."""
    config = context.config
    if config is None:
        return
    disabled = [provider.name for provider in config.providers]
    if not config.active:
        yield error(
            "fallbacks",
            "no provider is enabled: every request fails",
            f"`ccfallback providers enable {config.chain[-1].name}`",
        )
    elif config.has_fallback:
        yield good("fallbacks", f"the chain: {', '.join(each.name for each in config.active)}")
    elif disabled:
        yield warning(
            "fallbacks",
            f"every fallback is disabled: {join_names(disabled)}",
            f"`ccfallback providers enable {disabled[0]}`",
        )
    else:
        yield warning(
            "fallbacks",
            "no fallback is configured: when Anthropic fails, so does Claude Code",
            "`ccfallback providers presets` lists providers; "
            "`ccfallback providers add NAME --preset NAME` adds one",
        )


def keys(context: DoctorContext) -> Iterator[Finding]:
    """Whether the key of every enabled provider can be found."""
    from ccfallback.cli.doctor.diagnosis import key_remedy
    from ccfallback.credentials import KeyUnavailable, resolve
    from ccfallback.server.failover_driver import describe_missing
    from ccfallback.server.upstream import Upstreams

    if context.config is None:
        return
    ready = []
    fetch = Upstreams(context.config.network).make_fetch()
    for provider in context.config.active:
        command = f"ccfallback providers set {provider.name} --api-key-stdin"
        accounts, missing = provider.accounts, []
        for account in accounts:
            try:
                resolve(account, context.session.environ, fetch=fetch)
            except KeyUnavailable as fault:
                what = describe_missing(account, fault)
                remedy = f"`{fault.command}`" if fault.command else key_remedy(account)
                missing.append((f"{account.label} has {what}", remedy))
        # Each key that is missing is an error, unless the provider has another.
        report = error if len(missing) == len(accounts) else warning
        yield from (report("keys", message, remedy) for message, remedy in missing)
        if len(missing) == len(accounts):
            continue
        if provider.has_credential:
            ready.append(provider.name)
        elif message := describe_missing_key(provider):
            yield error("keys", message, f"`{command}`, or --api-key-env VARIABLE")
    if ready:
        yield good("keys", f"{join_names(ready)} {'has a key' if len(ready) == 1 else 'have keys'}")


def cooldowns(context: DoctorContext) -> Iterator[Finding]:
    """Whether any provider is available now."""
    config = context.config
    if config is None or not config.active:
        return
    limits = Limits.from_config(config)
    valid = valid_states(context.states, config, context.now)
    environ, now = context.session.environ, context.now
    states = {
        each.name: as_next(valid.get(each.name, CLOSED), each, environ, now)
        for each in config.active
    }
    ends = {
        name: state.cooldown_until
        for name, state in states.items()
        if phase(state, context.now) is Phase.OPEN and state.cooldown_until is not None
    }
    if not limits.cooldowns or not ends:
        yield good("cooldowns", "no provider is cooling down")
        return
    first = min(ends, key=lambda name: ends[name])
    back = f"{first} is back {format_ahead(ends[first], context.now)}"
    if len(ends) < len(states):
        message = f"cooling down: {join_names(list(ends))}; the other providers serve; {back}"
        yield good("cooldowns", message)
        return
    reasons = "; ".join(f"{name}: {states[name].reason or 'no reason recorded'}" for name in ends)
    yield error(
        "cooldowns",
        f"all providers are cooling down ({reasons}); {back}",
        "wait, or `ccfallback breaker reset --all` once the cause is gone; "
        "`ccfallback doctor --online` tries each provider",
    )


def clock(context: DoctorContext) -> Iterator[Finding]:
    """Whether the state contains times that the clock can't have written yet."""
    if context.config is None:
        return
    horizon = Limits.from_config(context.config).horizon
    wrong = {}
    for name, state in context.states.items():
        owners = (state, *state.credentials.values())
        for each in (*owners, *(of_model for own in owners for of_model in own.models.values())):
            past = [when for when in (each.last_failure, each.last_success) if when is not None]
            skewed = [when for when in past if when > context.now + CLOCK_SLACK]
            if each.cooldown_until is not None and each.cooldown_until - context.now > horizon:
                skewed.append(each.cooldown_until)
            if skewed:
                wrong[name] = max(skewed)
    for name, when in wrong.items():
        yield warning(
            "clock",
            f"a time in the state of {name} is too far ahead ({format_ahead(when, context.now)}): "
            "the clock of this machine was wrong, or is; ccfallback corrects it",
            f"check the clock, then `ccfallback breaker reset {name}`",
        )
    if not wrong:
        successes = [each.last_success for each in context.states.values() if each.last_success]
        last = f"; last success {format_ago(max(successes), context.now)}" if successes else ""
        yield good("clock", f"no time in the state is in the future{last}")


def roots(context: DoctorContext) -> Iterator[Finding]:
    """Which certificate authorities count, and whether the named ones can be read."""
    from ccfallback.server.trust import TrustedRoots

    if context.config is None:
        return
    trusted = TrustedRoots(context.config.network.ca_file, context.session.environ)
    trusted.load()
    for source in trusted.sources:
        if source.problem:
            message = f"the authorities of {source.name} do not count: {source.problem}"
            yield problem(
                "roots",
                message,
                "name a file with certificates in PEM format, or unset it",
                serious=source.name.startswith("network."),
            )
    counted = [f"{each.name}: {each.added}" for each in trusted.sources if not each.problem]
    yield good(
        "roots", f"trusted certificate authorities, by where they come from: {'; '.join(counted)}"
    )


def outgoing(context: DoctorContext) -> Iterator[Finding]:
    """Whether the outgoing proxies of the environment are URLs."""
    from ccfallback.server.outgoing import OutgoingProxies

    if context.config is None:
        return
    proxies = OutgoingProxies(context.config.network.proxy)
    for fault in proxies.find_problems():
        remedy = "correct or unset it, or `ccfallback config set network.proxy URL`"
        yield error("outgoing", f"{fault}; providers can't be reached", remedy)


def providers(context: DoctorContext) -> Iterator[Finding]:
    """Whether every enabled provider answers; only with `--online`."""
    if not context.online or context.config is None:
        return
    from ccfallback.cli.doctor.diagnosis import PASSING
    from ccfallback.cli.providers.test import probe_providers

    for result in probe_providers(context.session, context.config, list(context.config.active), ()):
        name = f"{result.provider} ({result.model})"
        if result.ok and result.tested:
            yield good("providers", f"{name} answers in {format_latency(result.seconds)}")
        elif result.ok:
            yield good("providers", f"{result.provider}: {result.message}")
        else:
            message = f"{name} failed: {result.message}"
            serious = result.trouble not in PASSING
            yield problem("providers", message, result.hint, serious=serious)


# -- The server


def port(context: DoctorContext) -> Iterator[Finding]:
    """Whether a server runs; if not, whether one could start."""
    from ccfallback.cli.running_server import describe_server_at

    config, server = context.config, context.server
    if server is not None:
        message = f"a server answers at {server.url} (pid {server.pid})"
        if context.configured_url not in (None, server.url):
            message += f"; it will use the configured {context.configured_url} after a restart"
        yield good("port", message)
    for each in context.private_servers:
        yield good("port", f"a proxy for `run` answers at {each.url} (pid {each.pid})")
    if config is None:
        return
    yield from _open_door(config, is_running=server is not None)
    if context.configured_url is None:
        return
    if server is not None and server.url == context.configured_url:
        return
    host, number = config.server.host, config.server.port
    why = _listen_obstacle(host, number)
    if why is None:
        if server is None:
            other = "no shared server runs" if context.private_servers else "no server runs"
            yield good("port", f"{other}; {host} port {number} is free")
        return
    owner = describe_server_at(context.configured_url) or "another program"
    yield error(
        "port",
        f"{host} port {number} is not available ({why}): {owner} uses it",
        "stop it, or use another port: `ccfallback config set server.port PORT`",
    )


def _open_door(config: "Config", *, is_running: bool) -> Iterator[Finding]:
    """Whether the configured address is open to other machines without an access token."""
    host = config.server.host
    if is_loopback(host) or config.tokens:
        return
    effect = (
        "the running server goes on asking for its last tokens, if it has any, but `serve` will "
        "refuse to start again"
        if is_running
        else "`serve` refuses to start"
    )
    yield error(
        "port",
        f"server.host is {host}, which other machines can reach, and there is no access token: "
        f"{effect}",
        "`ccfallback tokens add`, or `ccfallback config set server.host 127.0.0.1`",
    )


def _listen_obstacle(host: str, number: int) -> str | None:
    """Why an address can't be listened on, found by trying."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as fault:
        return fault.strerror or str(fault)
    return None


# -- Claude Code


def client(context: DoctorContext) -> Iterator[Finding]:
    """Whether a Claude Code that is started from here would send its requests to us."""
    for source in context.sources:
        if source.unreadable:
            message = f"{source.name} is not valid JSON"
            yield warning("client", message, "fix it: Claude Code ignores it, or will not start")
    decisive = next(
        (each for each in reversed(context.sources) if each.variables.get(BASE_URL)), None
    )
    if decisive is None:
        places = ", ".join(source.name for source in context.sources)
        message = f"Claude Code is not sent here: no {BASE_URL} (looked at {places})"
        yield warning("client", message, POINT_HERE)
        return
    url = decisive.variables[BASE_URL]
    shown = bare_url(url)
    if not context.is_client_pointed_here:
        message = f"{decisive.name} sends Claude Code to {shown}, not here"
        remedy = f"{POINT_HERE}; and remove {BASE_URL} from {decisive.name}"
        is_environment = decisive is context.sources[0]
        yield warning("client", message, POINT_HERE if is_environment else remedy)
        return
    for name in (place.switch for place in PLACES):
        if context.client.get(name, "").lower() in ("1", "true", "yes", "on"):
            message = f"{name} is set: Claude Code goes there and ignores {BASE_URL}"
            yield error("client", message, f"unset {name}")
    path = urlsplit(url).path.rstrip("/")
    if path:
        message = f"{BASE_URL} has a path ({shown}): Claude Code will request {path}/v1/messages"
        yield error("client", message, f"set it without {path}; {POINT_HERE}")
    elif not _is_running(context, url):
        message = f"{decisive.name} sends Claude Code to {shown}, where no server answers"
        yield error("client", message, "`ccfallback serve`, or `ccfallback service install`")
    else:
        yield good("client", f"{decisive.name} sends Claude Code to {shown}")


def _is_running(context: DoctorContext, url: str) -> bool:
    running = [context.server.url] if context.server is not None else []
    running += [each.url for each in context.private_servers]
    if context.health is not None and context.configured_url is not None:
        running.append(context.configured_url)
    return any(leads_to(url, each) for each in running)


def tokens(context: DoctorContext) -> Iterator[Finding]:
    """Whether the access tokens are long enough, and whether Claude Code sends one."""
    if context.config is None:
        return
    valid = [each.token.reveal() for each in context.config.tokens]
    for number, each in enumerate(context.config.tokens, 1):
        if len(each.token.reveal()) < SHORT_TOKEN:
            name = f"access token {number}" + (f" ({each.note})" if each.note else "")
            remedy = "`ccfallback tokens add` creates a long one; then remove the short one"
            yield warning("tokens", f"{name} is so short that it can be guessed", remedy)
    if not valid:
        yield good("tokens", "no access token is required")
        return
    sent = find_tokens(context.client)
    variable = next((name for name, value in sent.items() if value in valid), None)
    if variable is not None:
        yield good("tokens", f"Claude Code sends an access token, from {variable}")
        return
    places = "ANTHROPIC_CUSTOM_HEADERS, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY"
    wrong = f"; the one in {next(iter(sent))} is not valid" if sent else ""
    yield problem(
        "tokens",
        f"an access token is required, and Claude Code sends none (looked at {places}){wrong}: "
        "its requests get 401",
        POINT_HERE,
        serious=context.is_client_pointed_here,
    )


def proxies(context: DoctorContext) -> Iterator[Finding]:
    """Whether an outgoing proxy would get Claude Code's requests to this machine."""
    variable = find_capturing_proxy(context.client)
    if variable is None:
        yield good("proxies", "no proxy variable covers localhost")
        return
    yield problem(
        "proxies",
        f"{variable} also applies to Claude Code's requests to this machine",
        "`export NO_PROXY=127.0.0.1,localhost,::1` (add its present value); `ccfallback run` does "
        "this itself",
        serious=context.is_client_pointed_here,
    )


CHECKS: Final[tuple[Callable[[DoctorContext], Iterable[Finding]], ...]] = (
    version,
    config,
    permissions,
    state,
    log,
    disk,
    fallbacks,
    keys,
    cooldowns,
    caps,
    clock,
    port,
    client,
    tokens,
    proxies,
    roots,
    outgoing,
    providers,
    chain,
)
"""All checks, in the order in which `doctor` lists their findings."""
