from __future__ import annotations

from typing import Any

import pytest

from agent.doctor.checks import docker
from agent.doctor.findings import Level
from agent.doctor.host import EngineFacts
from tests.support.findings import GOOD_INFO, engine, levels, only


def test_an_engine_as_it_should_be() -> None:
    assert levels(docker.judge(engine(), docker.Around(socket_mode=0o660))) == {"ok"}


@pytest.mark.parametrize(
    ("info", "level", "word"),
    [
        ({"LiveRestoreEnabled": False}, "warning", '"live-restore": true'),
        (
            {"LiveRestoreEnabled": False, "Swarm": {"LocalNodeState": "active"}},
            "warning",
            "swarm leave",
        ),
        ({"Driver": "vfs"}, "warning", "overlay2"),
        ({"DriverStatus": [["Supports d_type", "false"]]}, "error", "ftype=1"),
        ({"LoggingDriver": "json-file"}, "warning", "max-size"),
        ({"SecurityOptions": ["name=rootless"]}, "error", "as root"),
        ({"SecurityOptions": ["name=userns"]}, "warning", "userns-remap"),
        ({"DockerRootDir": "/var/snap/docker/common"}, "warning", "packages"),
        (
            {"Warnings": ["WARNING: API is accessible on http://0.0.0.0:2375 without encryption."]},
            "warning",
            "TLS",
        ),
    ],
)
def test_an_engine_that_is_not(info: dict[str, Any], level: str, word: str) -> None:
    finding = only(docker.judge(engine(**info), docker.Around()), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_logs_may_grow_where_they_are_limited() -> None:
    around = docker.Around(daemon_json='{"log-opts": {"max-size": "10m"}}')
    assert levels(docker.judge(engine(LoggingDriver="json-file"), around)) == {"ok"}


def test_a_log_driver_that_the_engine_does_not_have() -> None:
    around = docker.Around(wanted_log_drivers=("json-file", "none", "awsfirelens", "splunk"))
    finding = only(docker.judge(engine(), around), Level.WARNING)
    assert "offers splunk, which" in finding.seen


def test_who_may_ask_the_engine() -> None:
    findings = docker.judge(engine(), docker.Around(socket_mode=0o666))
    assert "every user" in only(findings, Level.WARNING).seen
    findings = docker.judge(engine(), docker.Around(daemon_json="{"))
    assert "will not start again" in only(findings, Level.ERROR).seen


@pytest.mark.parametrize(
    ("refused", "installed", "word"),
    [
        ("missing", False, "install"),
        ("missing", True, "systemctl enable --now docker"),
        ("stopped", True, "systemctl enable --now docker"),
        ("forbidden", True, "sudo"),
        ("", True, "journalctl"),
    ],
)
def test_an_engine_that_does_not_answer(refused: str, installed: bool, word: str) -> None:
    away = EngineFacts(trouble="no answer", refused=refused)
    finding = only(docker.judge(away, docker.Around(installed=installed)), Level.ERROR)
    assert word in finding.command


@pytest.mark.parametrize(
    ("version", "level"), [("19.03.15", "error"), ("29.1.0", "ok"), ("?", "ok")]
)
def test_versions(version: str, level: str) -> None:
    facts = EngineFacts(info=GOOD_INFO, version={"Version": version})
    assert level in levels(docker.judge(facts, docker.Around()))


def test_security_modules_that_the_engine_does_without() -> None:
    around = docker.Around(wanted_security=("apparmor", "selinux"))
    findings = docker.judge(engine(SecurityOptions=["name=apparmor"]), around)
    assert "ECS_SELINUX_CAPABLE" in only(findings, Level.WARNING).seen


def test_an_engine_of_another_time() -> None:
    around = docker.Around(misunderstanding="it speaks API versions 1.99 to 1.99")
    assert "1.99" in only(docker.judge(engine(), around), Level.ERROR).seen


def test_podman_in_dockers_place() -> None:
    version = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
    facts = EngineFacts(info=GOOD_INFO, version=version)
    assert "Podman" in only(docker.judge(facts, docker.Around()), Level.ERROR).seen
