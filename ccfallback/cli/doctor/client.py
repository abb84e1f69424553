"""Claude Code: does it come here, with what it has to show. Its settings are only looked at."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from ccfallback.cli.doctor.case import DoctorContext, Finding, broken, doubtful, good, judged
from ccfallback.cli.env import (
    BASE_URL,
    find_capturing_proxy,
    find_tokens,
    leads_to,
)

SHORT: Final = 16
"""Letters below which an access token may be guessed."""

ELSEWHERE: Final = (
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)

POINT: Final = '`ccfallback run`, or in its shell: `eval "$(ccfallback env)"`'


def client(case: DoctorContext) -> Iterator[Finding]:
    """Would Claude Code come here, when it is started from here."""
    looked = ", ".join(source.name for source in case.sources)
    for source in case.sources:
        if source.unreadable:
            message = f"{source.name} is no JSON that could be read"
            yield doubtful("client", message, "mend it: Claude Code ignores it, or will not start")
    saying = next((each for each in reversed(case.sources) if each.variables.get(BASE_URL)), None)
    if saying is None:
        message = f"Claude Code is not sent here: no {BASE_URL} (looked at {looked})"
        yield doubtful("client", message, POINT)
        return
    url = saying.variables[BASE_URL]
    shown = _shown(url)
    if not case.is_pointed_here:
        message = f"Claude Code is sent to {shown} by {saying.name}, not here"
        remedy = f"{POINT}; and take {BASE_URL} out of {saying.name}"
        yield doubtful("client", message, POINT if saying is case.sources[0] else remedy)
        return
    for name in ELSEWHERE:
        if case.client.get(name, "").lower() in ("1", "true", "yes", "on"):
            message = f"{name} is set: Claude Code goes there, whatever {BASE_URL} says"
            yield broken("client", message, f"unset {name}")
    path = urlsplit(url).path.rstrip("/")
    if path:
        message = f"{BASE_URL} has a path ({shown}): Claude Code asks for {path}/v1/messages"
        yield broken("client", message, f"set it without {path}; {POINT}")
    elif not _answers(case, url):
        message = f"Claude Code is sent to {shown}, and nobody answers there"
        yield broken("client", message, "`ccfallback serve`, or `ccfallback service install`")
    else:
        yield good("client", f"Claude Code is sent to {shown} by {saying.name}")


def _answers(case: DoctorContext, url: str) -> bool:
    running = [case.server.url] if case.server is not None else []
    if case.health is not None and case.configured_url is not None:
        running.append(case.configured_url)
    return any(leads_to(url, each) for each in running)


def _shown(url: str) -> str:
    """A base URL without what may be a secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what is no URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def tokens(case: DoctorContext) -> Iterator[Finding]:
    """Are the access tokens long enough, and does Claude Code show one."""
    if case.config is None:
        return
    known = [each.token.reveal() for each in case.config.tokens]
    for number, each in enumerate(case.config.tokens, 1):
        if len(each.token.reveal()) < SHORT:
            name = f"access token {number}" + (f" ({each.note})" if each.note else "")
            remedy = "`ccfallback tokens add` makes a long one; then remove the short one"
            yield doubtful("tokens", f"{name} is short enough to be guessed", remedy)
    if not known:
        yield good("tokens", "no access token is asked for")
        return
    shown = find_tokens(case.client)
    variable = next((name for name, value in shown.items() if value in known), None)
    if variable is not None:
        yield good("tokens", f"Claude Code shows an access token, in {variable}")
        return
    places = "ANTHROPIC_CUSTOM_HEADERS, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY"
    wrong = f"; what {next(iter(shown))} holds is none" if shown else ""
    yield judged(
        "tokens",
        f"access tokens are asked for, and Claude Code shows none (looked at {places}){wrong}: "
        "its requests get 401",
        POINT,
        grave=case.is_pointed_here,
    )


def proxies(case: DoctorContext) -> Iterator[Finding]:
    """Would an outgoing proxy get what is meant for this machine."""
    variable = find_capturing_proxy(case.client)
    if variable is None:
        yield good("proxies", "no proxy variable captures loopback")
        return
    yield judged(
        "proxies",
        f"{variable} also captures what Claude Code sends to this machine",
        "export NO_PROXY=127.0.0.1,localhost,::1 (with what it holds already); `ccfallback run` "
        "does so by itself",
        grave=case.is_pointed_here,
    )
