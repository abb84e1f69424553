"""The chain: is there anybody to fail over to, have they keys, may they be asked."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ccfallback.cli.doctor.case import DoctorContext, Finding, broken, doubtful, good
from ccfallback.cli.phrases import format_ago, format_ahead, join_names

if TYPE_CHECKING:
    from ccfallback.config.model import Provider

CLOCK_SLACK: Final = 60.0
"""Seconds that a time may lie ahead before it is a wrong clock's."""


def fallbacks(case: DoctorContext) -> Iterator[Finding]:
    """Is there anybody to go to when the primary fails."""
    config = case.config
    if config is None:
        return
    names = [provider.name for provider in config.active]
    if not names:
        yield broken(
            "fallbacks",
            "no provider is enabled: every request fails",
            f"`ccfallback providers enable {config.chain[-1].name}`",
        )
    elif not config.has_fallback:
        disabled = [provider.name for provider in config.providers]
        yield doubtful(
            "fallbacks",
            "no fallback is configured: when Anthropic fails, so does Claude Code"
            if not disabled
            else f"every fallback is disabled: {join_names(disabled)}",
            "`ccfallback providers presets` lists whom to add; `ccfallback providers add NAME "
            "--preset NAME`"
            if not disabled
            else f"`ccfallback providers enable {disabled[0]}`",
        )
    else:
        yield good("fallbacks", f"the chain: {', '.join(names)}")


def keys(case: DoctorContext) -> Iterator[Finding]:
    """Has every enabled provider a key that can be had."""
    from ccfallback.config.secrets import KeyUnavailable, resolve

    if case.config is None:
        return
    ready = []
    for provider in case.config.active:
        command = f"ccfallback providers set {provider.name} --api-key-stdin"
        try:
            key = resolve(provider.key, case.session.environ)
        except KeyUnavailable as error:
            yield broken("keys", f"{provider.name} has no key: {error}", _remedy(provider, command))
            continue
        if key is None and not provider.primary and needs_key(provider):
            message = f"{provider.name} has no key, and {_host(provider)} will want one"
            yield broken("keys", message, f"`{command}`, or --api-key-env VARIABLE")
        elif key is not None:
            ready.append(provider.name)
    if ready:
        yield good("keys", f"there is a key for {join_names(ready)}")


def _remedy(provider: "Provider", command: str) -> str:
    source = provider.key
    if source.env is not None:
        return f"export {source.env} where the server is started, or `{command}`"
    program = (source.command or ("",))[0]
    return f"see that {program} prints the key when you run it yourself, or `{command}`"


def needs_key(provider: "Provider") -> bool:
    """Whether a provider without a key is likely to refuse: those on one's own network do not."""
    from ccfallback.addresses import is_loopback
    from ccfallback.redact import is_secret_header

    host = _host(provider)
    if is_loopback(host) or "." not in host or host.endswith((".local", ".lan", ".internal")):
        return False
    if any(is_secret_header(name) for name in provider.headers):
        return False
    if urlsplit(provider.base_url).query:
        return False
    try:
        return not ip_address(host).is_private
    except ValueError:
        return True


def _host(provider: "Provider") -> str:
    return urlsplit(provider.base_url).hostname or ""


def cooldowns(case: DoctorContext) -> Iterator[Finding]:
    """May anybody be asked right now."""
    from ccfallback.policy.breaker import CLOSED, Limits, Phase, phase

    config = case.config
    if config is None or not config.active:
        return
    limits = Limits.from_config(config)
    states = {each.name: case.states.get(each.name, CLOSED) for each in config.active}
    open_ = {
        name: state.cooldown_until
        for name, state in states.items()
        if phase(state, case.now, limits) is Phase.OPEN and state.cooldown_until is not None
    }
    if not limits.cooldowns or not open_:
        yield good("cooldowns", "nobody cools down")
        return
    first = min(open_, key=lambda name: open_[name])
    back = f"{first} is back {format_ahead(open_[first], case.now)}"
    if len(open_) < len(states):
        yield good("cooldowns", f"{join_names(list(open_))} cooling down, others serve; {back}")
        return
    why = "; ".join(f"{name}: {states[name].reason or 'no reason kept'}" for name in open_)
    yield broken(
        "cooldowns",
        f"all providers cool down ({why}); {back}",
        "wait for it, or `ccfallback breaker reset --all` once the cause is gone; "
        "`ccfallback doctor --online` asks each of them",
    )


def clock(case: DoctorContext) -> Iterator[Finding]:
    """Are there times in the state that no clock can have written yet."""
    from ccfallback.policy.breaker import Limits

    if case.config is None:
        return
    horizon = Limits.from_config(case.config).horizon
    ahead_of_us = {}
    for name, state in case.states.items():
        for each in (state, *state.models.values()):
            pasts = [when for when in (each.last_failure, each.last_success) if when is not None]
            skewed = [when for when in pasts if when > case.now + CLOCK_SLACK]
            if each.cooldown_until is not None and each.cooldown_until - case.now > horizon:
                skewed.append(each.cooldown_until)
            if skewed:
                ahead_of_us[name] = max(skewed)
    for name, when in ahead_of_us.items():
        yield doubtful(
            "clock",
            f"a time in the state of {name} is too far ahead ({format_ahead(when, case.now)}): the "
            "clock of this machine was wrong, or is; ccfallback ignores it",
            f"set the clock right, then `ccfallback breaker reset {name}`",
        )
    if not ahead_of_us:
        newest = max((s.last_success for s in case.states.values() if s.last_success), default=None)
        told = "" if newest is None else f"; the last success was {format_ago(newest, case.now)}"
        yield good("clock", f"no time in the state lies ahead{told}")
