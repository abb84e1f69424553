"""The platforms that serve Claude: which one a provider is on, and the model ids there."""

import pytest

from ccfallback.config.model import Provider
from ccfallback.config.platforms import OTHER, PLATFORMS

IDS = """
first party                 bedrock                                          vertex                      foundry            mantle
claude-3-5-haiku-20241022   us.anthropic.claude-3-5-haiku-20241022-v1:0      claude-3-5-haiku@20241022   claude-3-5-haiku   -
claude-3-5-sonnet-20241022  us.anthropic.claude-3-5-sonnet-20241022-v2:0     claude-3-5-sonnet-v2@20241022  claude-3-5-sonnet  -
claude-3-7-sonnet-20250219  us.anthropic.claude-3-7-sonnet-20250219-v1:0     claude-3-7-sonnet@20250219  claude-3-7-sonnet  -
claude-opus-4-20250514      us.anthropic.claude-opus-4-20250514-v1:0         claude-opus-4@20250514      claude-opus-4      -
claude-sonnet-4-20250514    us.anthropic.claude-sonnet-4-20250514-v1:0       claude-sonnet-4@20250514    claude-sonnet-4    -
claude-opus-4-1-20250805    us.anthropic.claude-opus-4-1-20250805-v1:0       claude-opus-4-1@20250805    claude-opus-4-1    -
claude-opus-4-5-20251101    us.anthropic.claude-opus-4-5-20251101-v1:0       claude-opus-4-5@20251101    claude-opus-4-5    -
claude-sonnet-4-5-20250929  us.anthropic.claude-sonnet-4-5-20250929-v1:0     claude-sonnet-4-5@20250929  claude-sonnet-4-5  -
claude-haiku-4-5-20251001   us.anthropic.claude-haiku-4-5-20251001-v1:0      claude-haiku-4-5@20251001   claude-haiku-4-5   anthropic.claude-haiku-4-5
claude-opus-4-6             us.anthropic.claude-opus-4-6-v1                  claude-opus-4-6             claude-opus-4-6    -
claude-sonnet-4-6           us.anthropic.claude-sonnet-4-6                   claude-sonnet-4-6           claude-sonnet-4-6  -
claude-opus-4-7             us.anthropic.claude-opus-4-7                     claude-opus-4-7             claude-opus-4-7    anthropic.claude-opus-4-7
claude-opus-5-5             us.anthropic.claude-opus-5-5                     claude-opus-5-5             claude-opus-5-5    anthropic.claude-opus-5-5
claude-sonnet-5             us.anthropic.claude-sonnet-5                     claude-sonnet-5             claude-sonnet-5    anthropic.claude-sonnet-5
claude-haiku-5-5            us.anthropic.claude-haiku-5-5                    claude-haiku-5-5            claude-haiku-5-5   anthropic.claude-haiku-5-5
claude-fable-5-1            us.anthropic.claude-fable-5-1                    claude-fable-5-1            claude-fable-5-1   anthropic.claude-fable-5-1
"""  # noqa: E501 -- a table
HEAD, *ROWS = [
    line.replace("first party", "claude-platform-aws").split() for line in IDS.strip().splitlines()
]


@pytest.mark.parametrize(
    ("platform", "model", "expected"),
    [
        (platform, row[0], row[place])
        for row in ROWS
        for place, platform in enumerate(HEAD)
        if row[place] != "-"
    ],
)
def test_the_id_of_a_model(platform: str, model: str, expected: str) -> None:
    for asked in (model, f"{model}[1m]"):
        assert PLATFORMS[platform].model_id(asked, "us-east-1") == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-haiku-4-5", "claude-haiku-4-5@20251001"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5@20251001"),
        ("claude-opus-4-0", "claude-opus-4@20250514"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet@20250219"),
        # No model after Opus 4.5 has a date in its id.
        ("claude-opus-4-6-20260205", "claude-opus-4-6"),
        ("claude-sonnet-6-20270101", "claude-sonnet-6"),
        ("gemini-3.8-flash[1m]", "gemini-3.8-flash"),
        ("claude-opus-4-5@default", "claude-opus-4-5@default"),
    ],
)
def test_the_id_of_another_spelling(model: str, expected: str) -> None:
    assert PLATFORMS["vertex"].model_id(model) == expected


@pytest.mark.parametrize(
    ("region", "prefix"),
    [
        ("us-west-2", "us."),
        ("us-gov-west-1", "us-gov."),
        ("eu-central-1", "eu."),
        ("ap-northeast-1", "apac."),
        ("ca-central-1", "global."),
        ("", "global."),
    ],
)
def test_the_geography_of_a_region(region: str, prefix: str) -> None:
    found = PLATFORMS["bedrock"].model_id("claude-opus-5-5", region)
    assert found == f"{prefix}anthropic.claude-opus-5-5"


@pytest.mark.parametrize(
    ("format_name", "base_url", "platform"),
    [
        ("anthropic", "https://api.anthropic.com", "anthropic"),
        ("anthropic", "https://bedrock-mantle.eu-west-1.api.aws/anthropic", "mantle"),
        ("anthropic", "https://aws-external-anthropic.us-east-1.api.aws", "claude-platform-aws"),
        ("anthropic", "https://claude.googleapis.com/v1/projects/p", "claude-google-cloud"),
        ("anthropic", "https://mine.services.ai.azure.com/anthropic", "foundry"),
        ("bedrock", "http://127.0.0.1:8080", "bedrock"),
        ("vertex", "http://127.0.0.1:8080", "vertex"),
        ("openai", "https://mine.services.ai.azure.com/openai/v1", ""),
        ("anthropic", "https://api.moonshot.ai/anthropic", ""),
        ("anthropic", "https://claude.googleapis.com.example.org", ""),
    ],
)
def test_the_platform_of_a_provider(format_name: str, base_url: str, platform: str) -> None:
    provider = Provider(name="p", format=format_name, base_url=base_url)
    assert provider.platform.name == platform


def test_a_configured_platform_has_priority_over_the_address() -> None:
    provider = Provider(name="p", base_url="http://127.0.0.1:8080", platform_name="mantle")
    assert provider.platform is PLATFORMS["mantle"]
    assert provider.model_for("claude-opus-5-5[1m]") == "anthropic.claude-opus-5-5"


def test_a_model_mapping_has_priority_over_the_ids_of_a_platform() -> None:
    base_url = "https://mine.services.ai.azure.com/anthropic"
    mapping = {
        "claude-opus-5-5": "my-deployment",
        "claude-haiku-4-5-20251001": "claude-haiku-4-5-20251001",
    }
    provider = Provider(name="p", base_url=base_url, model_mapping=mapping)
    assert provider.model_for("claude-opus-5-5[1m]") == "my-deployment"
    assert provider.model_for("claude-haiku-4-5-20251001") == "claude-haiku-4-5-20251001"
    assert provider.model_for("claude-sonnet-4-5-20250929") == "claude-sonnet-4-5"


def test_any_other_provider_gets_the_name_that_the_client_used() -> None:
    provider = Provider(name="p", base_url="https://h.test")
    assert provider.platform is OTHER
    assert provider.model_for("claude-haiku-4-5-20251001[1m]") == "claude-haiku-4-5-20251001[1m]"


def test_the_region_in_a_host_name() -> None:
    for host, region in (
        ("bedrock-runtime.eu-central-1.amazonaws.com", "eu-central-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-mantle.ap-southeast-2.api.aws", "ap-southeast-2"),
        ("127.0.0.1:80", ""),
        ("api.anthropic.com", ""),
    ):
        assert Provider(name="p", base_url=f"https://{host}").region == region
