from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import Settings, json_file, json_file_of, load
from agent.config.known import WITHOUT_EFFECT
from agent.config.settings import variables
from agent.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ecs.config"


def _load(config: Path, value: object, environ: dict[str, str] | None = None) -> Settings:
    text = value if isinstance(value, str) else json.dumps(value)
    json_file_of(config).write_text(text)
    return load(environ or {}, (config,))


def _error(config: Path, value: object) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(config, value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("member", "value", "field", "taken"),
    [
        ("Cluster", " prod ", "cluster", "prod"),
        ("CLUSTER", "prod", "cluster", "prod"),
        ("ClusterArn", "old", "cluster", "old"),
        ("awsRegion", "eu-west-1", "aws_region", "eu-west-1"),
        ("APIEndpoint", "127.0.0.1:5000", "backend_host", "https://127.0.0.1:5000"),
        ("DockerStopTimeout", 90_000_000_000, "container_stop_timeout_s", 90),
        ("ImagePullBehavior", 3, "image_pull_behavior", "prefer-cached"),
        ("ContainerInstancePropagateTagsFrom", 1, "propagate_tags_from", "ec2_instance"),
        ("ReservedPorts", [22, 80], "reserved_ports", (22, 80)),
        ("ReservedMemory", 512, "reserved_memory_mib", 512),
        ("DisableMetrics", True, "disable_metrics", True),
        ("ShouldExcludeIPv6PortBinding", False, "exclude_ipv6_port_binding", False),
        ("PrivilegedDisabled", 1, "disable_privileged", True),
        ("InstanceAttributes", {"rack": "a1"}, "instance_attributes", {"rack": "a1"}),
        ("DataDir", "/srv/ecs", "data_dir", Path("/srv/ecs")),
    ],
)
def test_members_are_settings_under_the_names_of_the_go_agent(
    config: Path, member: str, value: object, field: str, taken: object
) -> None:
    loaded = _load(config, {member: value})
    assert getattr(loaded, field) == taken
    assert loaded.warnings == ()


@pytest.mark.parametrize("value", [None, 0, "", [], {}])
def test_what_go_takes_for_no_value_is_none(config: Path, value: object) -> None:
    given = {"Cluster": value, "ReservedMemory": value, "TaskCleanupWaitDuration": value}
    assert _load(config, given) == Settings()


def test_environment_and_ecs_config_win_over_json(config: Path) -> None:
    config.write_text("ECS_RESERVED_MEMORY=2\n")
    both = {"Cluster": "json", "ReservedMemory": 1, "AWSRegion": "eu-west-1"}
    settings = _load(config, both, {"ECS_CLUSTER": "env"})
    assert (settings.cluster, settings.reserved_memory_mib, settings.aws_region) == (
        "env",
        2,
        "eu-west-1",
    )


def test_another_file_may_be_named(tmp_path: Path, config: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"Cluster": "other"}')
    config.write_text(f"ECS_AGENT_CONFIG_FILE_PATH={other}\n")
    assert _load(config, {"Cluster": "beside"}).cluster == "other"


def test_a_file_that_was_named_and_is_missing_is_told(config: Path) -> None:
    settings = load({"ECS_AGENT_CONFIG_FILE_PATH": "/nowhere/x.json"}, (config,))
    assert settings.warnings == (
        "/nowhere/x.json: there is no such file; check ECS_AGENT_CONFIG_FILE_PATH",
    )


@pytest.mark.parametrize("text", ["", "  \n", "{}"])
def test_an_empty_file_is_no_mistake(config: Path, text: str) -> None:
    assert _load(config, text) == Settings()


def test_bad_json_names_its_place_and_the_mend(config: Path) -> None:
    path = json_file_of(config)
    assert _error(config, '{"Cluster": "x",\n "ReservedMemory": 1,,}') == (
        f"{path}:2:22: is not valid JSON (Expecting property name enclosed in double quotes); "
        "fix the file or remove it"
    )
    assert "is not a JSON object" in _error(config, "[]")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"ReservedMemory": ' + "9" * 5000 + "}"], ids=["deep", "long"]
)
def test_json_beyond_reason_is_one_line(config: Path, text: str) -> None:
    assert _error(config, text).endswith("is not readable JSON; fix the file or remove it")


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("DockerStopTimeout", "30s", "is not a duration; write nanoseconds"),
        ("DockerStopTimeout", 1.5, "is not a duration; write nanoseconds"),
        ("DockerStopTimeout", -1, "is a negative duration"),
        ("External", "true", "is not a boolean; write true or false, without quotes"),
        ("External", [1], "is not a boolean"),
        ("External", 1.0, "is not a boolean"),
        ("ImagePullBehavior", 4, "0 is default, 1 is always, 2 is once, 3 is prefer-cached"),
        ("ImagePullBehavior", True, "is not a number from 0 to 3"),
        ("ReservedMemory", "512", "is not an integer; write it without quotes"),
        ("ReservedMemory", 70_000, "is out of range; use at least 0 and at most 65535"),
        ("DataDir", 5, "is not a string; put it in double quotes"),
        ("InstanceAttributes", {"a": 1}, 'has a value that is not a string at "a"'),
        ("ReservedPorts", {"a": 1}, "is not a JSON list of ports"),
    ],
)
def test_a_wrong_value_names_its_member_fault_and_mend(
    config: Path, member: str, value: object, told: str
) -> None:
    text = _error(config, {member: value})
    assert text.startswith(f"{json_file_of(config)}:{member}: ")
    assert told in text


def test_members_without_effect_and_unknown_ones_warn(config: Path) -> None:
    path = json_file_of(config)
    loaded = _load(config, '{"TaskENIEnabled": true, "noiid": true, "Clustr": 1, "NoIID": false}')
    assert loaded.warnings == (
        f"{path}: Clustr is not a known setting and has no effect",
        f"{path}: NoIID occurs more than once; the last one wins",
        f"{path}: no effect in this version: NoIID, TaskENIEnabled",
    )


def test_registry_credentials_are_not_shown(config: Path) -> None:
    both = {"EngineAuthType": "docker", "EngineAuthData": {"x": {"auth": "canary"}}}
    settings = _load(config, both)
    assert settings.engine_auth_data.reveal() == '{"x": {"auth": "canary"}}'
    assert "canary" not in repr(settings)
    assert "canary" not in _error(
        config, {"EngineAuthType": "docker", "EngineAuthData": ["canary"]}
    )


def test_every_member_has_a_setting_and_no_member_is_in_both_tables() -> None:
    names = {variable.name for variable in variables().values()}
    assert set(json_file.MEMBERS.values()) <= names
    assert not set(json_file.MEMBERS) & json_file.MEMBERS_WITHOUT_EFFECT
    assert not set(json_file.MEMBERS.values()) & WITHOUT_EFFECT


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_MEMBERS = st.sampled_from([*json_file.MEMBERS, *json_file.OLD_NAMES, "NoIID", "", "?"])


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(value=st.dictionaries(_MEMBERS, _ANY, max_size=4))
def test_no_json_does_anything_but_give_settings_or_tell(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    try:
        _load(tmp_path / "ecs.config", value)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - either is well
