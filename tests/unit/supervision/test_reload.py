"""What a reload is said to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.config import Settings, host_policy_file
from agent.config.settings import variables
from agent.config.values import SecretText
from agent.supervision.reload import SettingChange, difference

OLD = Settings()


def test_the_same_settings_differ_in_nothing() -> None:
    assert difference(OLD, Settings()) == []


def test_warnings_alone_are_no_difference() -> None:
    assert difference(OLD, replace(OLD, warnings=("something odd",))) == []


def test_values_are_told_as_an_operator_knows_them() -> None:
    new = replace(
        OLD,
        cluster="web",
        prometheus=True,
        task_cleanup_wait_s=60.0,
        log_file=Path("/var/log/ecs/agent.log"),
        reserved_ports=(22,),
    )
    assert difference(OLD, new) == [
        SettingChange("ECS_CLUSTER", "default", "web"),
        SettingChange("ECS_RESERVED_PORTS", "[22, 2375, 2376, 51678, 51679]", "[22]"),
        SettingChange("ECS_ENABLE_PROMETHEUS_METRICS", "false", "true"),
        SettingChange("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "10800", "60"),
        SettingChange("ECS_LOGFILE", "(none)", "/var/log/ecs/agent.log"),
    ]


def test_secrets_are_masked_and_their_change_is_told() -> None:
    first = replace(OLD, engine_auth_data=SecretText('{"auth": "hunter2"}'))
    second = replace(OLD, engine_auth_data=SecretText('{"auth": "hunter3"}'))
    name = "ECS_ENGINE_AUTH_DATA"
    assert difference(OLD, first) == [SettingChange(name, "(none)", "(secret)")]
    assert difference(first, second) == [SettingChange(name, "(secret)", "(new secret)")]
    assert difference(first, OLD) == [SettingChange(name, "(secret)", "(none)")]


def test_a_proxys_password_is_masked_and_its_change_is_told() -> None:
    first = replace(OLD, https_proxy="http://me:hunter2@p:1")
    second = replace(OLD, https_proxy="http://me:hunter3@p:1")
    name = "HTTPS_PROXY"
    assert difference(OLD, first) == [SettingChange(name, "(none)", "http://***@p:1")]
    again = "http://***@p:1 (new password)"
    assert difference(first, second) == [SettingChange(name, "http://***@p:1", again)]


@given(st.text(min_size=1, max_size=3000))
def test_a_value_is_bounded(text: str) -> None:
    (change,) = difference(OLD, replace(OLD, instance_attributes={"k": text}))
    assert len(change.new) <= 200


def test_every_setting_is_looked_at() -> None:
    for name in variables():
        other: dict[str, Any] = {name: object()}
        changed = replace(OLD, **other)
        assert len(difference(OLD, changed)) == 1, name


def test_a_change_of_the_file_is_a_change_of_the_settings() -> None:
    old = Settings(
        host_policy_file=Path("p.toml"), host_policy=host_policy_file.parse("", source="p.toml")
    )
    new = replace(old, host_policy=host_policy_file.parse("exec = false", source="p.toml"))
    (change,) = difference(old, new)
    assert (change.variable, change.new) == (
        "ECS_HOST_POLICY_FILE",
        "p.toml (its content has changed)",
    )
    assert difference(old, old) == []
