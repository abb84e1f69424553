"""Which providers this machine could use: facts in, findings out. Pure.

A finding is what `providers add` needs to know of one preset, and why it was found. `complete`
makes one for a preset that the user names, `find_all` those that `providers discover` proposes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final
from urllib.parse import urlsplit

from ccfallback.addresses import is_local
from ccfallback.cli.providers.facts import Facts, Value
from ccfallback.cli.providers.logins import AWS_REGION, LOGINS, Login, find_region, read_key
from ccfallback.config.model import Provider
from ccfallback.config.options import options
from ccfallback.config.platforms import region_of_host
from ccfallback.config.presets import FILLED_BY, Preset, placeholders
from ccfallback.credentials import google
from ccfallback.redact import mask_url, scrub

SMALLEST_WINDOW: Final = 32_000
"""Tokens that a context must have for Claude Code, whose first request alone has about 25,000."""


class Kind(IntEnum):
    """What a finding is; the chain has them in this order."""

    CLOUD = 0
    """The same Claude on another platform."""
    VENDOR = 1
    LOCAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A provider that this machine could use. The `repr` shows no value."""

    name: str
    preset: Preset
    kind: Kind
    credential: str = ""
    """What was found that it would use, in a few words; empty if nothing was."""
    why: tuple[str, ...] = ()
    """What else speaks for it."""
    problem: str = ""
    """Why it would not work now; empty if it looks ready."""
    renew: str = ""
    """The command that solves the problem."""
    missing: tuple[str, ...] = ()
    """The options that only the user can give."""
    note: str = ""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Settings of the provider by dotted key, beside those of the preset."""
    fill: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the placeholders of the preset stand for."""
    values: Mapping[str, Value] = field(default_factory=dict, repr=False)
    """What was found for placeholders, by their names, and `URL`."""
    has_key: bool = False
    """Whether it has a key, so that it needs no login."""

    @property
    def is_ready(self) -> bool:
        """Whether it would probably work as it is."""
        return not self.problem and not self.missing


@dataclass(frozen=True, slots=True)
class Place:
    """A preset that serves Claude on a cloud, and the variables that its own tools read."""

    preset: str
    login: str
    """The cloud whose login it takes: aws, google or azure."""
    switch: str
    """The variable by which Claude Code goes there."""
    url: str
    """The variable with another base URL."""
    values: Mapping[str, tuple[str, ...]]
    """The variables for each placeholder."""
    signs: tuple[str, ...] = ()
    """Variables that mean this place, besides its switch. If there are none, a login is enough."""
    key_first: bool = False
    """Whether its key, if there is one, has priority over the login."""


PLACES: Final = (
    Place(
        "bedrock",
        "aws",
        "CLAUDE_CODE_USE_BEDROCK",
        "ANTHROPIC_BEDROCK_BASE_URL",
        {"region": AWS_REGION},
    ),
    Place(
        "bedrock-mantle",
        "aws",
        "CLAUDE_CODE_USE_MANTLE",
        "ANTHROPIC_BEDROCK_MANTLE_BASE_URL",
        {"region": AWS_REGION},
        ("ANTHROPIC_BEDROCK_MANTLE_BASE_URL",),
    ),
    Place(
        "vertex",
        "google",
        "CLAUDE_CODE_USE_VERTEX",
        "ANTHROPIC_VERTEX_BASE_URL",
        {"project": google.PROJECT_VARIABLES, "location": ("CLOUD_ML_REGION",)},
    ),
    Place(
        "foundry",
        "azure",
        "CLAUDE_CODE_USE_FOUNDRY",
        "ANTHROPIC_FOUNDRY_BASE_URL",
        {"resource": ("ANTHROPIC_FOUNDRY_RESOURCE",)},
        key_first=True,
    ),
    Place(
        "claude-platform-aws",
        "aws",
        "CLAUDE_CODE_USE_ANTHROPIC_AWS",
        "ANTHROPIC_AWS_BASE_URL",
        {"region": AWS_REGION, "workspace": ("ANTHROPIC_AWS_WORKSPACE_ID",)},
        ("ANTHROPIC_AWS_API_KEY", "ANTHROPIC_AWS_WORKSPACE_ID"),
        key_first=True,
    ),
    Place(
        "claude-google-cloud",
        "google",
        "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
        "ANTHROPIC_GOOGLE_CLOUD_BASE_URL",
        {
            "project": ("ANTHROPIC_GOOGLE_CLOUD_PROJECT", *google.PROJECT_VARIABLES),
            "location": ("ANTHROPIC_GOOGLE_CLOUD_LOCATION",),
            "workspace": ("ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID",),
        },
        ("ANTHROPIC_GOOGLE_CLOUD_PROJECT", "ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID"),
    ),
)
"""In the order of the chain."""

_PLACES: Final = {place.preset: place for place in PLACES}

_VENDOR_VALUES: Final = {"azure": {"resource": ("AZURE_OPENAI_ENDPOINT",)}}
"""As `Place.values`, for presets that serve other models."""

_ROWS: Final = {row.path: row for row in options(Provider, deep=True)}
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,126}[A-Za-z0-9])?")


def complete(
    preset: Preset,
    facts: Facts,
    given: Mapping[str, Any] | None = None,
    fill: Mapping[str, str] | None = None,
    *,
    has_key: bool = False,
) -> Finding:
    """What the machine knows of a preset; `given` and `fill` are the user's own and have priority.

    They are part of the result. `has_key` says that the user gives a key in another way.
    """
    given, fill = dict(given or {}), dict(fill or {})
    place = _PLACES.get(preset.name)
    has_key = has_key or any(key.startswith("api_key") for key in given)
    has_credential = has_key or "auth" in given
    kind = Kind.VENDOR if place is None else Kind.CLOUD
    finding = Finding(name=preset.name, preset=preset, kind=kind)
    # A key of the environment goes to no other URL than that of its preset.
    may_have_key = bool(preset.key_env) and not has_credential and "base_url" not in given
    key = facts.variable(preset.key_env) if may_have_key else None
    login: Login | None = None
    if place is not None and not (key and place.key_first):
        auth = given.get("auth", "" if has_credential else place.login)
        if auth == place.login:
            login = LOGINS[auth](facts, given, given.get("aws.sign", preset.aws.get("sign", "")))
            if login is not None and preset.auth != auth and "api_key" not in login.given:
                login = replace(login, given={**login.given, "auth": auth})
    elif key is not None:
        login = read_key(preset.key_env, key)
    if login is not None:
        finding = replace(
            finding,
            credential=login.what,
            problem=login.problem,
            renew=login.renew,
            note=login.note,
            given=login.given,
        )
    given = {**finding.given, **given}
    # A program that prints AWS credentials is a login.
    has_key = has_key or not given.keys().isdisjoint({"api_key", "api_key_env"})
    finding = replace(finding, given=given, fill=fill, has_key=has_key)
    region = None if login is None else login.region
    return _fill_in(finding, place, facts, region)


def _fill_in(finding: Finding, place: Place | None, facts: Facts, region: Value | None) -> Finding:
    """The finding with the values of the preset's placeholders, and the missing options."""
    preset = finding.preset
    given, fill, values = dict(finding.given), dict(finding.fill), dict(finding.values)
    problem = finding.problem
    url = None if place is None or "base_url" in given else facts.variable(place.url)
    # A URL that leads to this machine is probably ours.
    if url is not None and _ROWS["base_url"].accepts(url.text) and not is_local(url.text):
        given["base_url"], values["URL"] = url.text, url
    variables = _VENDOR_VALUES.get(preset.name, {}) if place is None else place.values
    in_url = () if "base_url" in given else placeholders(preset.base_url)
    in_tables = (*preset.headers.values(), *preset.aws.values(), *preset.google.values())
    missing: list[str] = []
    for name in dict.fromkeys((*in_url, *placeholders(*in_tables))):
        key = FILLED_BY.get(name, "")
        if name in fill or key in given:
            continue
        candidates = list(_candidates(name, variables.get(name, ()), facts, region, given))
        value = next((each for each in candidates if _is_valid(name, each.text)), None)
        if value is not None:
            (given if key else fill)[key or name] = value.text
            values[name] = value
        elif name != "location":
            missing.append(_option(name))
            if candidates:
                problem = problem or f"the value of {candidates[0].source} can't be a {name}"
    if finding.kind is Kind.VENDOR and not preset.models and not given.get("model_mapping"):
        missing.append("--map '*=MODEL'")
    return replace(
        finding, given=given, fill=fill, values=values, missing=tuple(missing), problem=problem
    )


def _option(placeholder: str) -> str:
    """The option that gives the value of a placeholder."""
    if key := FILLED_BY.get(placeholder):
        return f"{_ROWS[key].flag} {_ROWS[key].metavar}"
    return f"--fill {placeholder}={placeholder.upper()}"


def _candidates(
    name: str,
    variables: Sequence[str],
    facts: Facts,
    region: Value | None,
    given: Mapping[str, Any],
) -> Iterator[Value]:
    if name == "region" and (found := region_of_host(str(given.get("base_url", "")))):
        yield Value(found, "the URL")
    if name == "region" and region is not None:
        yield region
    for variable in variables:
        if (value := facts.variable(variable)) is not None:
            is_url = name == "resource" and value.text.startswith("https://")
            host = (urlsplit(value.text).hostname or "") if is_url else ""
            yield Value(host.partition(".")[0], value.source) if is_url else value
    if name == "region" and (region := find_region(facts, given)) is not None:
        yield region
    if name == "project":
        for member in ("project_id", "quota_project_id"):
            if isinstance(text := facts.google.get(member), str) and text:
                yield Value(text, "the Google login")
        if text := facts.gcloud.get("project", ""):
            yield Value(text, "the configuration of gcloud")


def _is_valid(name: str, text: str) -> bool:
    if key := FILLED_BY.get(name):
        return _ROWS[key].accepts(text)
    return _LABEL.fullmatch(text) is not None


def describe_values(finding: Finding) -> list[str]:
    """What was found for a preset, a line for each value."""
    lines = [f"credential: {finding.credential}"] if finding.credential else []
    lines += [
        f"{name}: {mask_url(value.text)}, from {value.source}"
        for name, value in finding.values.items()
    ]
    lines += [f"! {finding.problem}{run(finding)}"] if finding.problem else []
    return [*lines, finding.note] if finding.note else lines


def run(finding: Finding) -> str:
    """The command that solves the problem, as the end of a sentence; empty if there is none."""
    return f"; run `{scrub(finding.renew)}`" if finding.renew else ""


# -- What is proposed


def find_all(presets: Mapping[str, Preset], facts: Facts) -> list[Finding]:
    """Every provider that files and variables speak for, the same Claude first."""
    found = [*_find_places(presets, facts), *_find_vendors(presets, facts)]
    return sorted(found, key=lambda each: (each.kind, bool(each.missing), bool(each.problem)))


def _find_places(presets: Mapping[str, Preset], facts: Facts) -> Iterator[Finding]:
    for place in PLACES:
        if place.preset not in presets:
            continue
        finding = complete(presets[place.preset], facts)
        switch = facts.is_on(place.switch)
        signs = [value for name in place.signs if (value := facts.variable(name)) is not None]
        # Where its own variables exist, a login alone does not mean this place.
        if switch is None and not signs and (place.signs or not finding.credential):
            continue
        if switch is not None:
            finding = replace(finding, why=(*finding.why, f"Claude Code uses it: {switch.source}"))
        if not finding.credential:
            finding = replace(
                finding,
                problem=finding.problem or "no credential was found",
                renew=finding.renew or _FIRST_LOGINS[place.login],
            )
        yield finding


_FIRST_LOGINS: Final = {"aws": "aws configure sso", "google": google.LOGIN, "azure": "az login"}


def _find_vendors(presets: Mapping[str, Preset], facts: Facts) -> Iterator[Finding]:
    """The first preset for each key, and the one whose endpoint Claude Code uses."""
    vendors = [each for each in presets.values() if each.name not in _PLACES and each.key_env]
    seen = {presets[name].key_env for name in _PLACES if name in presets}
    for preset in vendors:
        if preset.key_env in seen or facts.variable(preset.key_env) is None:
            continue
        seen.add(preset.key_env)
        others = [
            each.name
            for each in vendors
            if each.key_env == preset.key_env
            and each.format == preset.format
            and each.base_url != preset.base_url
        ]
        finding = complete(preset, facts)
        if others:
            note = f"if the key is for {' or '.join(others)}, add that preset instead"
            finding = replace(finding, note="; ".join(filter(None, (finding.note, note))))
        yield finding
    url = facts.variable("ANTHROPIC_BASE_URL")
    names = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY")
    key = next(((name, value) for name in names if (value := facts.variable(name))), None)
    if url is None or key is None:
        return
    for preset in vendors:
        if preset.key_env not in seen and _leads_to(url.text, preset):
            login = read_key(*key)
            finding = complete(preset, facts, login.given)
            why = (*finding.why, f"Claude Code uses it: {url.source}")
            yield replace(finding, credential=login.what, note=login.note, why=why)
            return


def _leads_to(url: str, preset: Preset) -> bool:
    """Whether a URL is the base URL of a preset; a slash at the end does not matter."""
    return url.rstrip("/") == preset.base_url.rstrip("/")


def switches_on(facts: Facts) -> list[tuple[str, Value]]:
    """The presets to which Claude Code goes by itself, past its base URL, and why."""
    return [
        (place.preset, value)
        for place in PLACES
        if (value := facts.is_on(place.switch)) is not None
    ]


# -- Local servers


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """A model server on this machine, by its own answers."""

    preset: str
    """The name of its preset for the Anthropic format."""
    port: int
    speaks_messages: bool
    """Whether it has an endpoint of the Messages API."""
    model: str = ""
    """The model to use; empty if it has none."""
    window: int | None = None
    """The context window of that model in tokens, as it is served."""


_LONGER: Final = {
    "ollama": "set OLLAMA_CONTEXT_LENGTH=65536 for its server",
    "llamacpp": "start it with --ctx-size 65536",
    "lmstudio": "load the model with a longer context",
    "vllm": "start it with --max-model-len 65536",
    "sglang": "start it with --context-length 65536",
}
_UNKNOWN: Final = {
    "ollama": "its context is unknown until the model is loaded; without OLLAMA_CONTEXT_LENGTH it "
    "may be too small for Claude Code",
    "lmstudio": "its context is unknown until the model is loaded",
}
_FIRST_MODELS: Final = {"ollama": "ollama pull qwen3-coder", "lmstudio": "lms get"}


def find_local(presets: Mapping[str, Preset], server: LocalServer) -> Finding:
    """The provider that a local server would be."""
    preset = presets[server.preset]
    if not server.speaks_messages:
        preset = presets.get(f"{server.preset}-openai", preset)
    given: dict[str, Any] = {}
    problem = renew = ""
    if server.model:
        given["model_mapping"] = {"*": server.model}
    else:
        problem, renew = "it has no model", _FIRST_MODELS.get(server.preset, "")
    if server.window is not None:
        given["context_window"] = server.window
        if server.window < SMALLEST_WINDOW:
            problem = f"a context of {server.window:,} tokens is too small for Claude Code"
            problem += f": {_LONGER.get(server.preset, 'start it with a longer one')}"
    if urlsplit(preset.base_url).port != server.port:
        path = urlsplit(preset.base_url).path
        given["base_url"] = f"http://localhost:{server.port}{path}"
    window = f"{server.window:,} tokens" if server.window else ""
    return Finding(
        name=server.preset,
        preset=preset,
        kind=Kind.LOCAL,
        credential=f"port {server.port}",
        why=tuple(filter(None, (server.model, window))),
        problem=problem,
        renew=renew,
        given=given,
        note="" if server.window or not server.model else _UNKNOWN.get(server.preset, ""),
    )
