"""Finds what is wrong with a provider by its answer to one small request, and what to do.

`providers test` and `doctor --online` send the request. The tables below hold the remedies, a row
for each kind of trouble.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from ccfallback.addresses import bare_url
from ccfallback.config.model import Provider, mapped_model
from ccfallback.config.presets import presets
from ccfallback.policy.outcome import CLOCK_IS, Fault, Outcome
from ccfallback.rectify.fields import least_limit
from ccfallback.rectify.rule import Refusal
from ccfallback.wire import FORMATS, recognize_answer, recognize_refusal
from ccfallback.wire.format import WireFormat
from ccfallback.words import closest

ASKED_FOR: Final = ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5")
"""Models that Claude Code asks for, one of each size; the usual one is the first."""

ANY_LETTERS: Final = "latest"
"""Replaces a `*` to make a name of a glob."""


class Trouble(StrEnum):
    """Why a provider gives no answer."""

    NONE = ""
    NO_KEY = "no-key"
    NO_LOGIN = "no-login"
    """There is no login, or it has expired."""
    KEY_REFUSED = "key-refused"
    LOGIN_REFUSED = "login-refused"
    CLOCK = "clock"
    """The credential is refused because this machine's clock is wrong."""
    CREDIT = "credit"
    WRONG_PATH = "wrong-path"
    WRONG_FORMAT = "wrong-format"
    WEB_PAGE = "web-page"
    UNKNOWN_MODEL = "unknown-model"
    REDIRECT = "redirect"
    TLS = "tls"
    UNKNOWN_AUTHORITY = "unknown-authority"
    CERTIFICATE = "certificate"
    """The certificate itself is wrong, even if a trusted authority signed it."""
    OWN_MACHINE = "own-machine"
    UNREACHABLE = "unreachable"
    SLOW = "slow"
    LIMIT = "limit"
    OVERLOADED = "overloaded"
    LOOP = "loop"
    REFUSED = "refused"
    """The provider refuses the request for another reason."""
    MODEL_FAILED = "model-failed"
    """The model ends its answers with a stop reason that means a failure."""
    BROKEN = "broken"
    """The provider fails, or its response is not an answer."""


PASSING: Final = frozenset({Trouble.LIMIT, Trouble.OVERLOADED})
"""Temporary troubles, of a provider that is configured correctly."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One request to one provider, and its response."""

    provider: Provider
    model: str
    outcome: Outcome
    body: bytes = b""
    """The beginning of the response's body."""
    location: str = ""
    """The target of a redirect."""
    sent: bool = True
    """Whether a request was made at all."""
    known_models: Sequence[str] = ()
    """The models that the provider lists, if the list was read."""


def models_for(provider: Provider, asked: Sequence[str], usual: Iterable[str]) -> tuple[str, ...]:
    """The models to test a provider with: those in `asked`, else one for each mapped model.

    `usual` are the models that a client asks for, the most likely first.
    """
    if asked:
        return tuple(dict.fromkeys(asked))
    mapping = provider.model_mapping
    names = [*usual, *(_example(glob) for glob in mapping)]
    if not mapping:
        return tuple(names[:1])
    chosen: dict[str, str] = {}
    for name in names:
        target = mapped_model(name, mapping)
        if target in mapping.values():
            chosen.setdefault(target, name)
    return tuple(chosen.values()) or tuple(names[:1])


def _example(glob: str) -> str:
    """A model that matches a row of a mapping."""
    return re.sub(r"\[.*?\]|\?", "1", glob).replace("*", ANY_LETTERS)


_TROUBLE_BY_FAULT: Final[Mapping[Fault, Trouble]] = {
    Fault.NONE: Trouble.NONE,
    Fault.REQUEST: Trouble.REFUSED,
    Fault.LOGIN: Trouble.KEY_REFUSED,
    Fault.OLD_LOGIN: Trouble.KEY_REFUSED,
    Fault.ACCOUNT: Trouble.CREDIT,
    Fault.THROTTLED: Trouble.LIMIT,
    Fault.MODEL_THROTTLED: Trouble.LIMIT,
    Fault.OVERLOADED: Trouble.OVERLOADED,
    Fault.UNKNOWN_MODEL: Trouble.WRONG_PATH,
    Fault.MODEL_FAILED: Trouble.MODEL_FAILED,
    Fault.MODEL_TORN: Trouble.MODEL_FAILED,
    Fault.UPSTREAM: Trouble.BROKEN,
    Fault.TRANSPORT: Trouble.UNREACHABLE,
    Fault.UNREACHABLE: Trouble.UNREACHABLE,
    Fault.CONNECT_TIMEOUT: Trouble.UNREACHABLE,
    Fault.OWN_MACHINE: Trouble.OWN_MACHINE,
    Fault.TIMEOUT: Trouble.SLOW,
    Fault.TORN: Trouble.BROKEN,
}
"""The trouble behind a fault, unless the response shows another; see `trouble`."""

_REMEDIES: Final[Mapping[Trouble, str]] = {
    Trouble.NONE: "",
    Trouble.NO_KEY: "{key}",
    Trouble.NO_LOGIN: "{login}",
    Trouble.KEY_REFUSED: "give it another key: `{set} --api-key-stdin`; if the key is right, "
    "another --auth-header than {auth_header} may be",
    Trouble.LOGIN_REFUSED: "check that the account of the {auth} login may use the model, and that "
    "project and region are right; the README names the permissions (The same Claude elsewhere)",
    Trouble.CLOCK: "set the clock of this machine, as with `sudo timedatectl set-ntp true`: "
    "the provider refuses what was signed at another time",
    Trouble.CREDIT: "check credit, plan and permissions of the account at the provider",
    Trouble.WRONG_PATH: "there is nothing at {endpoint}: `{set} --base-url URL`, or "
    "`{set} --format {other}` if that is what it speaks",
    Trouble.WRONG_FORMAT: "it answers in the {other} format: `{set} --format {other}`",
    Trouble.WEB_PAGE: "{endpoint} is a web page, not an API: `{set} --base-url URL`",
    Trouble.UNKNOWN_MODEL: "{mapping}",
    Trouble.MODEL_FAILED: "the model breaks off its answers: try again, or map another model: "
    "`{set} --map '{model}=MODEL'`",
    Trouble.REDIRECT: "redirects are not followed, because they would take the key along: "
    "`{set} --base-url {location}`",
    Trouble.TLS: "does {host} speak TLS on that port? Use http:// on a port without TLS: "
    "`{set} --base-url URL`",
    Trouble.UNKNOWN_AUTHORITY: "its certificate is from an authority that is not known here, as "
    "behind a company's TLS inspection or at a server of your own: get the authority's "
    "certificate (PEM) and `ccfallback config set network.ca_file PATH`; `ccfallback doctor` "
    "lists the authorities that are trusted",
    Trouble.CERTIFICATE: "the certificate itself is wrong, and no trusted authority changes that: "
    "check the clock of this machine and the host name {host}; otherwise the operator of the "
    "server has to replace it",
    Trouble.OWN_MACHINE: "the provider was not reached because of this machine: check its outgoing "
    "proxy (HTTPS_PROXY, ALL_PROXY, network.proxy), its firewall and its limits (`ulimit -n`)",
    Trouble.UNREACHABLE: "check that {host} is right, up, and reachable from this machine: "
    "`{set} --base-url URL`",
    Trouble.SLOW: "try again; if it is always this slow, give it more time in `timeouts`",
    Trouble.LIMIT: "key and address are right; its limit is used up for now",
    Trouble.OVERLOADED: "key and address are right; try again in a minute",
    Trouble.LOOP: "give it the address of the provider itself: `{set} --base-url URL`",
    Trouble.REFUSED: "see what it says; `ccfallback providers show {name}` shows its configuration",
    Trouble.BROKEN: "try again; if that does not help, look at the provider's status page",
}

LOGIN_REMEDIES: Final = {
    "aws": "`aws sso login` or `aws configure` for its profile, or AWS_BEARER_TOKEN_BEDROCK",
    "google": "`gcloud auth application-default login`",
    "azure": "`az login`, or give the provider an api_key",
}
"""What to do about a login that is missing, by the `auth` of the provider."""

_MODEL_UNKNOWN: Final = re.compile(
    r"\bmodels?\b.{0,160}?(?:not[ _](?:found|exist|available|supported|a valid)|n't exist"
    r"|unknown|unsupported|is invalid)"
    r"|(?:unknown|invalid|no such|unsupported|unrecognized|not a valid) model"
    r"|^model: |no endpoints found",
    re.IGNORECASE | re.DOTALL,
)
_UNKNOWN_AUTHORITY: Final = re.compile(r"issuer|self.signed|verify the first", re.IGNORECASE)
"""What OpenSSL says of a certificate whose authority is not trusted."""

_LOGIN: Final = re.compile(r"run `[^`]+`")
"""What the message of a missing login tells the user to do."""

_CREDIT: Final = re.compile(r"credit|billing|balance|quota|payment|spend", re.IGNORECASE)

_PAGE: Final = re.compile(rb"\s*<(?:!doctype )?html", re.IGNORECASE)


def trouble(evidence: Evidence) -> Trouble:
    """What is wrong with the provider."""
    outcome = evidence.outcome
    if outcome.ok:
        return Trouble.NONE
    if not evidence.sent:
        if outcome.fault is Fault.REQUEST:
            return Trouble.REFUSED
        if outcome.reason.startswith("no credential") or _LOGIN.search(outcome.reason):
            return Trouble.NO_LOGIN
        return Trouble.NO_KEY if outcome.reason.startswith("no key") else Trouble.LOOP
    status = outcome.status or 0
    if 300 <= status < 400:
        return Trouble.REDIRECT
    if outcome.reason.startswith("TLS certificate"):
        is_unknown = _UNKNOWN_AUTHORITY.search(outcome.reason) is not None
        return Trouble.UNKNOWN_AUTHORITY if is_unknown else Trouble.CERTIFICATE
    if outcome.reason.startswith("TLS"):
        return Trouble.TLS
    if 200 <= status < 300 and _is_other(recognize_answer(evidence.body), evidence):
        return Trouble.WRONG_FORMAT
    if 200 <= status < 300 and _PAGE.match(evidence.body):
        return Trouble.WEB_PAGE
    if status in (400, 404, 422) and _is_about_the_model(outcome):
        return Trouble.UNKNOWN_MODEL
    if status in (404, 405):
        return Trouble.WRONG_PATH
    if status in (400, 422) and least_limit(Refusal(status, outcome.message, outcome.code)):
        # It demands a longer answer than a test, so key and model are accepted.
        return Trouble.NONE
    if status in (400, 422) and _is_other(recognize_refusal(evidence.body), evidence):
        return Trouble.WRONG_FORMAT
    if status in (401, 403) and not _CREDIT.search(outcome.message):
        if CLOCK_IS in outcome.reason:
            return Trouble.CLOCK
        is_login = evidence.provider.auth != "key" and not evidence.provider.has_static_key
        return Trouble.LOGIN_REFUSED if is_login else Trouble.KEY_REFUSED
    return _TROUBLE_BY_FAULT[outcome.fault]


def remedy(evidence: Evidence) -> str:
    """What to do about the trouble, in one line; empty if there is nothing to do."""
    provider = evidence.provider
    wire = FORMATS[provider.format]
    return _REMEDIES[trouble(evidence)].format(
        name=provider.name,
        set=f"ccfallback providers set {provider.name}",
        auth_header=provider.auth_header,
        auth={"aws": "AWS"}.get(provider.auth, provider.auth.capitalize()),
        other=_other_format(evidence),
        endpoint=bare_url(wire.url(provider, provider.model_for(evidence.model), stream=True)),
        host=urlsplit(provider.base_url).netloc.rpartition("@")[2],
        location=bare_url(evidence.location) or "URL",
        model=evidence.model,
        mapping=_suggested_mapping(evidence),
        login=_login_remedy(evidence),
        key=key_remedy(provider),
    )


def key_remedy(provider: Provider) -> str:
    """What to do about a credential that is missing where the configuration looks for it."""
    source, command = provider.key, f"ccfallback providers set {provider.name} --api-key-stdin"
    if not source and provider.auth in LOGIN_REMEDIES:
        return LOGIN_REMEDIES[provider.auth]
    if source.env is not None:
        return f"export {source.env} where the server is started, or `{command}`"
    if source.command is not None:
        return f"run {source.command[0]} yourself and check that it prints the key, or `{command}`"
    return f"`{command}`, or --api-key-env VARIABLE"


def _login_remedy(evidence: Evidence) -> str:
    """The command for a login, as the reason has it."""
    match = _LOGIN.search(evidence.outcome.reason)
    retry = f"`ccfallback providers test {evidence.provider.name}`"
    return f"{match[0]}, then {retry}" if match else f"when the login is there, {retry}"


def _other_format(evidence: Evidence) -> str:
    """The format that the provider probably speaks, if it does not speak the configured one."""
    seen = recognize_answer(evidence.body) or recognize_refusal(evidence.body)
    own = evidence.provider.format
    if seen is not None and seen.name != own:
        return seen.name
    return next(name for name in FORMATS if name != own)


def _is_other(wire: WireFormat | None, evidence: Evidence) -> bool:
    """Whether a format was recognized, and the body cannot be in the provider's own."""
    own, body = FORMATS[evidence.provider.format], evidence.body
    is_own = own.answer_mark.search(body) or own.refusal_mark.search(body)
    return wire is not None and not is_own


def _is_about_the_model(outcome: Outcome) -> bool:
    if outcome.code == "model_not_found":
        return True
    return _MODEL_UNKNOWN.search(outcome.message) is not None


def _suggested_mapping(evidence: Evidence) -> str:
    """How to map the model to one that the provider knows."""
    provider, model = evidence.provider, evidence.model
    target = provider.model_for(model)
    command = f"`ccfallback providers set {provider.name} --map '{model}={{}}'`"
    likely = _likely_model(provider, model, target, evidence.known_models)
    if likely is not None:
        return f"it knows no {target}; map it: {command.format(likely)}"
    return f"it knows no {target}; map it to one of its own: {command.format('MODEL')}"


def _likely_model(
    provider: Provider, model: str, target: str, known_models: Sequence[str]
) -> str | None:
    """The model of the provider that is probably meant by `target`."""
    if known_models:
        bare = {name.rpartition("/")[2]: name for name in reversed(known_models)}
        for wanted in (target, model):
            close = closest(wanted.rpartition("/")[2], bare, alike=0.5)
            if close is not None:
                return bare[close]
        return known_models[0]
    host = urlsplit(provider.base_url).hostname
    for preset in presets().values():
        if urlsplit(preset.base_url).hostname == host and preset.models:
            suggested = mapped_model(model, preset.models)
            if suggested not in (model, target):
                return suggested
    return None
