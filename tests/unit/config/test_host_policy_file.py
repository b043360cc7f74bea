"""What a policy file may say, who may write it, and that nothing odd is taken for something."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import host_policy, host_policy_file, load
from agent.config.host_policy import BASELINE, OPEN, RESTRICTED, HostPath, HostPolicy
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = """
base = "restricted"
privileged = true
host_namespaces = ["network"]
added_capabilities = ["cap_net_admin", "SYS_TIME"]
host_paths = ["/srv/www:ro", "/srv/data/**", "/"]
forbidden_host_paths = ["/srv/data/keys"]
images = ["registry.example:5000/team/*", "nginx", "localhost:5000/*"]
image_digests = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
exec = true

[max_task]
memory_mib = 512
cpu = 1024

[max_ulimits]
nofile = 1024
"""


def parsed(text: str) -> HostPolicy:
    return host_policy_file.parse(text, source="file")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that nobody else can replace; those of pytest may be open to all."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def policy_file(folder: Path, text: str = "") -> Path:
    path = folder / "host-policy.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_every_key_of_a_file_becomes_a_rule() -> None:
    policy = parsed(EXAMPLE)
    assert policy.source == "file"
    assert policy.privileged
    assert policy.added_capabilities == ("NET_ADMIN", "SYS_TIME")
    assert policy.host_paths == (
        HostPath("/srv/www", read_only=True),
        HostPath("/srv/data", below=True),
        HostPath("/"),
    )
    assert policy.max_task == (("cpu", 1024), ("memory_mib", 512))
    assert dict(policy.max_ulimits) == {"nofile": 1024}
    assert policy.read_only_root, "what a file does not name is that of its base"


def test_an_empty_file_closes_every_way_to_rule_the_host() -> None:
    policy = parsed("")
    assert (policy.privileged, policy.host_paths, policy.devices) == (False, (), ())
    assert (policy.host_namespaces, policy.other_settings) == ((), False)


@pytest.mark.parametrize(
    ("base", "rules"), [("open", OPEN), ("baseline", BASELINE), ("restricted", RESTRICTED)]
)
def test_a_base_is_the_set_of_rules_of_its_name(base: str, rules: HostPolicy) -> None:
    found = parsed(f'base = "{base}"')
    assert all(getattr(found, name) == getattr(rules, name) for name in host_policy.rules())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("privilegd = false", "'privilegd' is not a rule; did you mean privileged?"),
        ("[nothing.like.it]\na = 1", "'nothing' is not a rule; see docs/host-policy.md"),
        ('privileged = "no"', "privileged: is not true or false"),
        ("exec = 0", "exec: is not true or false"),
        ('base = "closed"', "base: 'closed' is unknown; write one of open, baseline, restricted"),
        ("base = 1", "base: '1' is unknown"),
        ('host_namespaces = "network"', "host_namespaces: is not a list of texts"),
        ('host_namespaces = ["net"]', "'net' is unknown; write names of network"),
        ("devices = [1]", "devices: is not a list of texts"),
        ('devices = ["/dev/*/x"]', "has a * that is not at its end"),
        ('host_paths = ["srv"]', "'srv' is not an absolute path"),
        ('host_paths = ["/srv/../etc"]', "is not an absolute path without '..'"),
        ('host_paths = ["/srv/*"]', "has a '*' or ':' in it"),
        ('forbidden_host_paths = ["/srv/**"]', "has a '*' or ':' in it"),
        ('images = ["https://registry.example/x"]', "is not a registry or repository"),
        ('images = ["nginx:latest"]', "is not a registry or repository"),
        ('images = ["registry.example:5000"]', "write registry.example:5000/*"),
        ('image_digests = ["sha256:abc"]', "is not a digest"),
        ('added_capabilities = ["NET ADMIN"]', "is not a capability"),
        ("max_task = 5", "max_task: is not a table"),
        ("[max_task]\ndisk = 5", "'disk' is unknown; write one of cpu"),
        ("[max_task]\ncpu = 0", "cpu is not a number from 1"),
        ("[max_ulimits]\nnofile = -1", "nofile is not a number from 0"),
        ("[max_ulimits]\nnofile = true", "nofile is not a number"),
        ("privileged = ", "is not TOML"),
        ("privileged = true\nprivileged = false", "is not TOML"),
    ],
)
def test_what_is_odd_is_refused_with_its_mend(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^file: ") as caught:
        parsed(text)
    assert wrong in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="file") as caught:
        parsed('base = "x"\nprivileged = 1\nnothing = 2')
    assert len(str(caught.value).splitlines()) == 3


@given(st.text(max_size=80))
def test_no_text_is_anything_but_a_policy_or_an_error(text: str) -> None:
    told = "file: "
    try:
        parsed(text)
    except ValueError as error:
        told = str(error)
    assert told.startswith("file: ")


def test_an_allowed_path_is_named_as_it_really_is(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    with pytest.raises(ValueError, match=f"leads to {folder}/real by a symbolic link; write"):
        parsed(f'host_paths = ["{folder}/link"]')
    forbidden = parsed(f'forbidden_host_paths = ["{folder}/link"]').forbidden_host_paths
    assert forbidden == (f"{folder}/link", f"{folder}/real")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_to_is_refused(folder: Path, mode: int) -> None:
    path = policy_file(folder)
    path.chmod(mode)
    with pytest.raises(ValueError, match="other users can write to it; chmod go-w"):
        host_policy_file.read(path)


def test_a_file_that_others_can_replace_is_refused(folder: Path) -> None:
    path = policy_file(folder)
    folder.chmod(0o777)
    with pytest.raises(ValueError, match="other users can replace it"):
        host_policy_file.read(path)
    folder.chmod(0o755)
    assert host_policy_file.read(path).source == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    path = policy_file(folder)
    os.chown(path, 12345, -1)
    with pytest.raises(ValueError, match="belongs to user 12345"):
        host_policy_file.read(path)


def test_what_is_no_file_or_no_text_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        host_policy_file.read(folder / "none")
    with pytest.raises(ValueError, match="cannot be read"):
        host_policy_file.read(folder)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        host_policy_file.read(folder / "pipe")
    path = policy_file(folder)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="byte 0 is not UTF-8"):
        host_policy_file.read(path)
    path.write_bytes(b"#" * (host_policy_file.MOST_BYTES + 1))
    with pytest.raises(ValueError, match="is larger than 256 KiB"):
        host_policy_file.read(path)


def test_settings_read_the_file_that_they_name(folder: Path) -> None:
    path = policy_file(folder, "privileged = true")
    environ = {"ECS_HOST_POLICY_FILE": str(path)}
    assert load({}, ()).host_policy is None
    read = load(environ, ()).host_policy
    assert read is not None
    assert (read.source, read.privileged) == (str(path), True)
    path.write_text("nothing = 1\nless = 2")
    with pytest.raises(ConfigError) as caught:
        load(environ, ())
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        f"environment: ECS_HOST_POLICY_FILE: {path}: 'nothing' is not a rule"
    )


def test_the_setting_of_amazons_agent_is_one_of_the_rules(folder: Path) -> None:
    path = policy_file(folder, 'base = "open"\nprivileged = true')
    alone = load({"ECS_DISABLE_PRIVILEGED": "true"}, ()).host_policy
    assert alone is not None
    assert (alone.privileged, alone.guards_host, alone.host_paths) == (False, False, None)
    both = load(
        {"ECS_DISABLE_PRIVILEGED": "true", "ECS_HOST_POLICY_FILE": str(path)}, ()
    ).host_policy
    assert both is not None
    assert (both.privileged, both.source) == (False, str(path))
