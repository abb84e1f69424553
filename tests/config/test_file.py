import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from ccfallback import files
from ccfallback.config import file as config_file
from ccfallback.config.edit import Document, set_key
from ccfallback.config.file import ConfigFile, DraftFile
from ccfallback.config.model import Config
from ccfallback.credentials.aws import region_here
from ccfallback.errors import ConfigError
from ccfallback.wire import FORMATS

TEXT = '# mine\n[log]\nlevel = "debug"   # for now\n'

ADDER = """
import sys
from functools import partial
from pathlib import Path
from ccfallback.config.edit import ProviderChanges, add_provider
from ccfallback.config.file import ConfigFile
from ccfallback.wire import FORMATS

file = ConfigFile(Path(sys.argv[1]), FORMATS, list, str)
for number in range(12):
    name = f"{sys.argv[2]}-{number}"
    changes = ProviderChanges(base_url="https://a.example")
    file.edit(lambda document: add_provider(document, name, changes, None))
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path / "config.toml", FORMATS, lambda: ["sampling"], region_here)


def level(document: Document, value: str) -> None:
    set_key(document, "log.level", value)


def test_no_file_means_the_defaults(file: ConfigFile) -> None:
    assert file.load() == Config()
    assert file.stamp() is None


def test_a_file_is_loaded(file: ConfigFile) -> None:
    file.path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert file.load().log.level == "debug"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"[log\n",
            ":1: not valid TOML: Expected ']' at the end of a table declaration (column 5)",
        ),
        (b"a = 1\n\xff\n", ":2: not UTF-8"),
        (b"[log]\nlevle = 'info'\n", ":2: log.levle: unknown key; did you mean level?"),
        (b"x = " + b"[" * 100_000, "not valid TOML"),
        (b"x = " + b"9" * 5000, "not valid TOML"),
    ],
)
def test_a_faulty_file_is_an_error_that_names_it_and_the_place(
    file: ConfigFile, data: bytes, said: str
) -> None:
    file.path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        file.load()
    assert str(file.path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_several_faults_are_listed_in_the_order_of_their_lines(file: ConfigFile) -> None:
    file.path.write_text('[server]\nprot = 1\nport = "x"\n[[providers]]\nbase_url = "ftp://x"\n')
    with pytest.raises(ConfigError) as refused:
        file.load()
    assert [fault.line for fault in refused.value.faults] == [2, 3, 4, 5]


def test_a_folder_in_its_place_is_an_error(file: ConfigFile) -> None:
    file.path.mkdir()
    with pytest.raises(ConfigError, match="can't be"):
        file.load()
    with pytest.raises(ConfigError, match="can't be"):
        file.edit(lambda document: level(document, "warn"))


def test_an_edit_keeps_comments(file: ConfigFile) -> None:
    file.path.write_text(TEXT)
    file.edit(lambda document: level(document, "warn"))
    assert file.path.read_text() == TEXT.replace("debug", "warn")
    assert file.load().log.level == "warn"


@pytest.mark.parametrize("last", ["\r\n", ""])
def test_an_edit_keeps_the_line_ends_of_windows(file: ConfigFile, last: str) -> None:
    text = '# of mine\r\n[log] # this\r\nlevel = "info"\r\n\r\n[server]\r\nport = 1'
    file.path.write_bytes((text + last).encode())

    def change(document: Document) -> None:
        level(document, "debug")
        set_key(document, "log.backups", 2)
        set_key(document, "breaker.max_cooldown", 60)
        document.insert("tokens", 0, {"token": "a-token-that-is-long-enough"})

    file.edit(change)
    data = file.path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > text.count("\n") + 3
    assert data.startswith(b'# of mine\r\n[log] # this\r\nlevel = "debug"\r\n')


def test_an_edit_leaves_mixed_line_ends_as_they_are(file: ConfigFile) -> None:
    file.path.write_bytes(b'# of mine\r\n[log]\nlevel = "info"\r\n')
    file.edit(partial(level, value="debug"))
    assert file.path.read_bytes() == b'# of mine\r\n[log]\nlevel = "debug"\r\n'


def test_an_edit_returns_what_the_change_returns(file: ConfigFile) -> None:
    assert file.edit(lambda document: 7) == 7
    assert not file.path.exists()


def test_an_edit_that_changes_nothing_writes_nothing(file: ConfigFile) -> None:
    file.path.write_text(TEXT)
    before = file.stamp()
    file.edit(lambda document: level(document, "debug"))
    assert file.stamp() == before
    assert file.history() == []


def test_an_edit_that_would_not_load_never_reaches_the_disk(file: ConfigFile) -> None:
    file.path.write_text(TEXT)
    before = file.stamp()
    with pytest.raises(ConfigError, match=r"log\.level"):
        file.edit(lambda document: level(document, "loud"))
    assert file.stamp() == before
    assert file.path.read_text() == TEXT
    assert file.history() == []


def test_a_broken_file_is_not_edited(file: ConfigFile) -> None:
    file.path.write_text("[log\n")
    with pytest.raises(ConfigError, match=":1: "):
        file.edit(lambda document: level(document, "warn"))


def test_a_change_that_raises_leaves_the_file(file: ConfigFile) -> None:
    def change(document: Document) -> None:
        level(document, "warn")
        raise KeyError("mine")

    file.path.write_text(TEXT)
    with pytest.raises(KeyError):
        file.edit(change)
    assert file.path.read_text() == TEXT


def test_every_version_is_kept_and_can_be_restored(file: ConfigFile) -> None:
    for value in ("warn", "error", "debug"):
        file.edit(partial(level, value=value))
    versions = file.history()
    assert [version.number for version in versions] == [3, 2, 1]
    assert versions[2].path.read_bytes() == b""
    assert file.restore(versions[1])
    assert file.load().log.level == "warn"
    assert file.history()[0].number == 4
    assert file.restore(versions[2])
    assert file.load() == Config()
    assert not file.restore(versions[2])


def test_a_broken_file_can_be_replaced_but_not_by_another(file: ConfigFile) -> None:
    file.path.write_bytes(b"\xff[log")
    assert file.replace(TEXT)
    assert file.history()[0].path.read_bytes() == b"\xff[log"
    with pytest.raises(ConfigError):
        file.replace("[log")
    assert file.text() == TEXT


def test_so_many_versions_and_no_more(file: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "MOST_VERSIONS", 3)
    for port in range(5):
        file.replace(f"[server]\nport = {port}\n")
    assert [version.number for version in file.history()] == [5, 4, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_file_and_its_versions_are_the_owners_alone(file: ConfigFile) -> None:
    file.path.write_text(TEXT)
    file.path.chmod(0o644)
    file.edit(lambda document: level(document, "warn"))
    version = file.history()[0]
    assert files.is_private(file.path)
    assert files.is_private(version.path)
    assert files.is_private(version.path.parent)


def test_two_processes_lose_no_edit(file: ConfigFile) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(file.path), name]) for name in "ab"
    ]
    assert [child.wait() for child in children] == [0, 0]
    names = [provider.name for provider in file.load().providers]
    assert sorted(names) == sorted(f"{who}-{number}" for who in "ab" for number in range(12))
    assert len(file.history()) == 24


def test_a_draft_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    draft = DraftFile(tmp_path / "config.toml")
    assert draft.read() is None
    draft.keep("a = ü")
    assert draft.read() == "a = ü"
    draft.drop()
    draft.drop()
    assert draft.read() is None


def test_a_draft_older_than_the_configuration_is_ignored(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    draft = DraftFile(config)
    draft.keep("old")
    config.write_text("new")
    os.utime(draft.path, ns=(1, 1))
    assert draft.read() is None
    os.utime(config, ns=(1, 1))
    assert draft.read() == "old"


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_address_of_bedrock_follows_from_a_region(
    file: ConfigFile, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    file.path.write_text(
        '[[providers]]\nname = "own"\nformat = "bedrock"\naws.region = "eu-west-1"\n'
        '[[providers]]\nname = "environment"\nformat = "bedrock"\n'
        '[[providers]]\nname = "host"\nformat = "bedrock"\n'
        'base_url = "https://bedrock-runtime.us-west-2.amazonaws.com"\n'
    )
    config = file.load()
    assert [each.region for each in config.providers] == ["eu-west-1", "", "us-west-2"]
    lacking = config.providers[1]
    assert FORMATS["bedrock"].missing_key(lacking) == "aws.region"
    monkeypatch.setenv(variable, "ap-south-1")
    config = file.load()
    assert [each.region for each in config.providers] == ["eu-west-1", "ap-south-1", "us-west-2"]
    assert config.providers[1].base_url == "https://bedrock-runtime.ap-south-1.amazonaws.com"
    assert config.providers[1].model_for("claude-opus-5-5") == "apac.anthropic.claude-opus-5-5"
    assert FORMATS["bedrock"].missing_key(config.providers[1]) == ""
    monkeypatch.setenv(variable, "not a region/../")
    assert file.load().providers[1].region == ""


@pytest.mark.parametrize(
    ("environ", "profile", "region"),
    [
        ({}, "work", "eu-west-1"),
        ({"AWS_PROFILE": "work"}, "", "eu-west-1"),
        ({"AWS_PROFILE": "other"}, "work", "eu-west-1"),
        ({}, "", "ap-south-1"),
        ({"AWS_REGION": "us-east-2"}, "work", "us-east-2"),
        ({"AWS_REGION": "no/region"}, "work", "eu-west-1"),
        ({"AWS_PROFILE": "bad"}, "", ""),
        ({"AWS_PROFILE": "none"}, "", ""),
    ],
)
def test_the_region_of_an_aws_profile_decides_where_nothing_else_does(
    file: ConfigFile,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    profile: str,
    region: str,
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    folder = home / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        "[profile work]\nregion = eu-west-1\n[default]\nregion = ap-south-1\n"
        "[profile bad]\nregion = not a/region\n"
    )
    named = f'profile = "{profile}"' if profile else ""
    file.path.write_text(
        '[[providers]]\nname = "login"\nformat = "bedrock"\nauth = "aws"\n'
        f'base_url = "http://127.0.0.1:1"\naws = {{ {named} }}\n'
        f'[[providers]]\nname = "plain"\nformat = "bedrock"\naws = {{ {named} }}\n'
        '[[providers]]\nname = "host"\nformat = "bedrock"\nauth = "aws"\n'
        'base_url = "https://bedrock-runtime.us-west-2.amazonaws.com"\n'
        '[[providers]]\nname = "elsewhere"\nbase_url = "https://a.example"\n'
    )
    login, plain, host, elsewhere = file.load().providers
    assert login.region == plain.region == region
    prefix = {"eu": "eu", "ap": "apac", "us": "us"}.get(region[:2], "global")
    assert login.model_for("claude-opus-5-5") == f"{prefix}.anthropic.claude-opus-5-5"
    if region:
        assert plain.base_url == f"https://bedrock-runtime.{region}.amazonaws.com"
    assert (host.region, elsewhere.region) == ("us-west-2", "")


def test_a_file_of_aws_that_is_malformed_leaves_the_configuration_valid(
    file: ConfigFile, home: Path
) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("no section")
    file.path.write_text('[[providers]]\nname = "b"\nformat = "bedrock"\nauth = "aws"\n')
    assert file.load().providers[0].region == ""
