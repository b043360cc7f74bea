from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Settings, host_policy, host_policy_file
from agent.doctor.checks.host_policy import judge
from agent.doctor.findings import Finding, Level


def found(text: str) -> Finding:
    policy = host_policy_file.parse(text, source="p.toml")
    (one,) = judge(Settings(host_policy=policy, host_policy_file=Path("p.toml")))
    return one


def test_without_a_policy_nothing_is_wrong_and_it_is_told() -> None:
    (one,) = judge(Settings())
    assert one.level is Level.OK
    assert "control may order anything" in one.seen


def test_the_setting_of_amazon_alone_closes_too_little() -> None:
    settings = Settings(disable_privileged=True, host_policy=host_policy.without_privileged())
    (one,) = judge(settings)
    assert one.level is Level.WARNING
    assert "all capabilities, devices" in one.seen


@pytest.mark.parametrize("text", ["", 'base = "restricted"', 'host_namespaces = ["network"]'])
def test_a_policy_that_closes_the_host(text: str) -> None:
    assert found(text).level is Level.OK


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("privileged = true", "privileged"),
        ('added_capabilities = ["SYS_ADMIN"]', "added_capabilities"),
        ('host_paths = ["/**"]', "host_paths"),
        ("other_settings = true", "other_settings"),
        ('base = "open"', "privileged, host_namespaces, added_capabilities, host_paths, devices"),
    ],
)
def test_a_policy_that_leaves_a_way_open_is_told_which(text: str, rule: str) -> None:
    one = found(text)
    assert one.level is Level.WARNING
    assert one.seen.startswith(f"p.toml lets tasks become root on this host: {rule}")
