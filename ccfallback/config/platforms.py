"""The platforms that serve Claude besides Anthropic's own API, and the name of each model there.

Client and user say `claude-opus-5-5` or `claude-haiku-4-5-20251001`; each platform has its own id
for it. Ids as the platforms' model lists have them, November 2026.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import msgspec

LONG_CONTEXT: Final = "[1m]"
"""The end of a model name by which the client asks for a long context; no part of the name."""

_MODEL: Final = re.compile(r"(claude-[a-z0-9.-]+?)(?:[-@](20\d{6})|-latest)?")

_DATES: Final[Mapping[str, str]] = {
    "claude-3-haiku": "20240307",
    "claude-3-5-haiku": "20241022",
    "claude-3-5-sonnet": "20241022",
    "claude-3-7-sonnet": "20250219",
    "claude-opus-4": "20250514",
    "claude-opus-4-1": "20250805",
    "claude-opus-4-5": "20251101",
    "claude-sonnet-4": "20250514",
    "claude-sonnet-4-5": "20250929",
    "claude-haiku-4-5": "20251001",
}
"""The models whose ids have a date, and the date where the client gives none. No later one has."""

_GEOGRAPHIES: Final = (("us-gov-", "us-gov"), ("us-", "us"), ("eu-", "eu"), ("ap-", "apac"))
"""The start of a region, and the prefix of its inference profiles; elsewhere it is `global`."""

_REGION: Final = re.compile(r"(?:^|\.)([a-z]{2}(?:-[a-z]+)+-\d+)\.")


class Platform(msgspec.Struct, frozen=True):
    """One place that serves Claude. In its ids `{name}` is a model without a date, `{date}` the
    date, and `{geography}` the prefix for the provider's region."""

    name: str
    """The name in the configuration: `platform = "…"`."""
    title: str
    format: str
    """The wire format of its providers."""
    hosts: re.Pattern[str] | None = None
    """Its hosts; `None` if every provider of the format is on it."""
    dated: str = "{name}-{date}"
    undated: str = "{name}"
    exceptions: Mapping[str, str] = {}
    """Ids that follow no rule."""
    required_headers: tuple[str, ...] = ()
    """Headers without which it refuses every request."""
    regional: str = ""
    """What shows that a region is promised, for which the platform takes more: the `model` id, the
    `location` of the provider, or that it has an `address`. Empty if all places cost the same."""
    serves_claude: bool = True
    """Whether its models are Claude, which reads the thinking that Claude signed elsewhere."""

    @property
    def has_geographies(self) -> bool:
        """Whether its ids depend on the region."""
        return "{geography}" in self.dated

    def model_id(self, model: str, region: str = "") -> str:
        """The platform's id of a model; the name itself if it is not one of Claude's."""
        model = model.removesuffix(LONG_CONTEXT)
        match = _MODEL.fullmatch(model)
        if match is None:
            return model
        name, date = match.groups()
        if name.endswith("-4-0"):
            name = name.removesuffix("-0")
        form = self.undated
        if name in _DATES:
            form = self.exceptions.get(name, self.dated)
        form = self.exceptions.get(name, form)
        return form.format(
            name=name, date=date or _DATES.get(name, ""), geography=geography(region)
        )


OTHER: Final = Platform("", "another provider", "", serves_claude=False)
"""Any other provider; it may have any model, under any name."""

PLATFORMS: Final[Mapping[str, Platform]] = {
    row.name: row
    for row in (
        Platform("anthropic", "Anthropic", "anthropic", re.compile(r"api\.anthropic\.com")),
        Platform(
            "bedrock",
            "Amazon Bedrock",
            "bedrock",
            regional="model",
            dated="{geography}.anthropic.{name}-{date}-v1:0",
            undated="{geography}.anthropic.{name}",
            exceptions={
                "claude-3-5-sonnet": "{geography}.anthropic.{name}-{date}-v2:0",
                "claude-opus-4-6": "{geography}.anthropic.{name}-v1",
            },
        ),
        Platform(
            "mantle",
            "Claude in Amazon Bedrock",
            "anthropic",
            re.compile(r"bedrock-mantle\.[a-z0-9-]+\.api\.aws"),
            dated="anthropic.{name}",
            undated="anthropic.{name}",
            regional="address",
        ),
        Platform(
            "claude-platform-aws",
            "Claude Platform on AWS",
            "anthropic",
            re.compile(r"aws-external-anthropic\.[a-z0-9-]+\.api\.aws"),
            required_headers=("anthropic-workspace-id",),
        ),
        Platform(
            "vertex",
            "Google Vertex AI",
            "vertex",
            dated="{name}@{date}",
            regional="location",
            exceptions={"claude-3-5-sonnet": "{name}-v2@{date}"},
        ),
        Platform(
            "claude-google-cloud",
            "Claude on Google Cloud",
            "anthropic",
            re.compile(r"claude\.googleapis\.com"),
        ),
        Platform(
            "foundry",
            "Microsoft Foundry",
            "anthropic",
            re.compile(r"[a-z0-9-]+\.services\.ai\.azure\.com"),
            dated="{name}",
        ),
    )
}
"""Every platform by its name."""

FIRST_PARTY: Final = frozenset({"anthropic", "claude-platform-aws", "claude-google-cloud"})
"""The platforms that Anthropic itself runs."""


@lru_cache(maxsize=512)
def find_platform(format_name: str, base_url: str) -> Platform:
    """The platform of a provider, by its format and its host."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    for row in PLATFORMS.values():
        if row.format == format_name and (row.hosts is None or row.hosts.fullmatch(host)):
            return row
    return OTHER


@lru_cache(maxsize=512)
def region_of_host(base_url: str) -> str:
    """The region that a host name has in it, as in `bedrock-runtime.eu-west-1.amazonaws.com`;
    empty if it has none."""
    match = _REGION.search(urlsplit(base_url).hostname or "")
    return match[1] if match else ""


def geography(region: str) -> str:
    """The prefix of the inference profiles for a region."""
    return next((name for start, name in _GEOGRAPHIES if region.startswith(start)), "global")
