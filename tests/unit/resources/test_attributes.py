"""What an instance says it can do."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import ConfigError
from agent.model.resources import HostResources
from agent.resources.attributes import (
    CONTROL_SECRETS,
    EXECUTE_COMMAND,
    SERVICE_CONNECT,
    TASK_NETWORK,
    Features,
    advertised,
    towards_ecs,
)

HOST = HostResources(cpu_units=1024, memory_mib=1024, architecture="arm64", os_family="debian_12")


def test_an_ordinary_host() -> None:
    got = advertised(HOST, Features(), api_version="1.41", custom={"rack": "r1"})
    assert got["ecs.os-type"] == "linux"
    assert got["ecs.os-family"] == "LINUX"
    assert got["ecs.os-type-detailed"] == "debian_12"
    assert got["ecs.cpu-architecture"] == "arm64"
    assert got["rack"] == "r1"
    api = sorted(name for name in got if "docker-remote-api" in name)
    assert [name.rsplit(".", 1)[1] for name in api] == [
        *map(str, range(17, 26)),
        "28",
        "29",
        "30",
        "32",
    ]
    for name in (
        "com.amazonaws.ecs.capability.logging-driver.json-file",
        "com.amazonaws.ecs.capability.logging-driver.none",
        "com.amazonaws.ecs.capability.privileged-container",
        "ecs.capability.container-ordering",
        "ecs.capability.container-health-check",
        "ecs.capability.container-restart-policy",
        "ecs.capability.task-eni",
    ):
        assert got[name] == ""


def test_what_is_off_or_absent_is_not_claimed() -> None:
    off = Features(privileged=False, health_checks=False, awsvpc=False, port_ranges=False)
    got = advertised(HOST, off, api_version="1.24")
    assert not {
        "com.amazonaws.ecs.capability.privileged-container",
        "com.amazonaws.ecs.capability.docker-remote-api.1.25",
        "com.amazonaws.ecs.capability.logging-driver.awslogs",
        "ecs.capability.container-health-check",
        "ecs.capability.task-eni",
        "ecs.capability.task-cpu-mem-limit",
        "ecs.capability.gpu-driver-version",
    } & set(got)


def test_a_logging_driver_needs_its_engine_api() -> None:
    features = Features(logging_drivers=("splunk", "sumologic", "awsfirelens"))
    got = [name for name in advertised(HOST, features, api_version="1.28") if "logging" in name]
    assert got == ["com.amazonaws.ecs.capability.logging-driver.splunk"]


def test_firelens_is_offered_where_the_engine_has_its_driver() -> None:
    got = set(advertised(HOST, Features(firelens=True), api_version="1.41"))
    assert {
        "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
        "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit",
        "ecs.capability.firelens.fluentd",
        "ecs.capability.firelens.fluentbit",
        "ecs.capability.firelens.options.config.file",
        "ecs.capability.firelens.options.config.s3",
        "ecs.capability.firelens.non-root-user",
    } <= got
    assert not [n for n in advertised(HOST, Features(), api_version="1.41") if "firelens" in n]


def test_logs_are_written_with_the_execution_role_unless_that_is_off() -> None:
    name = "ecs.capability.execution-role-awslogs"
    assert name in advertised(HOST, Features(), api_version="1.41")
    assert name not in advertised(HOST, Features(awslogs_role=False), api_version="1.41")


def test_what_is_fetched_for_tasks_is_told_to_every_control() -> None:
    fetched = {
        "com.amazonaws.ecs.capability.ecr-auth",
        "ecs.capability.env-files.s3",
        "ecs.capability.private-registry-authentication.secretsmanager",
        "ecs.capability.secrets.asm.bootstrap.log-driver",
        "ecs.capability.secrets.asm.environment-variables",
        "ecs.capability.secrets.ssm.bootstrap.log-driver",
        "ecs.capability.secrets.ssm.environment-variables",
    }
    for told in (advertised, towards_ecs):
        assert fetched <= set(told(HOST, Features(), api_version="1.41"))
        assert "com.amazonaws.ecs.capability.ecr-auth" not in told(
            HOST, Features(), api_version="1.18"
        )


def test_the_zone_is_said_to_each_control_in_its_words() -> None:
    ours = advertised(HOST, Features(), api_version="1.41", zone="attic")
    amazons = towards_ecs(HOST, Features(), api_version="1.41", zone="attic")
    assert ours["ecs.availability-zone"] == amazons["ecs-host-agent.availability-zone"] == "attic"
    assert "ecs.availability-zone" not in amazons
    for silent in (
        advertised(HOST, Features(), api_version="1.41"),
        towards_ecs(HOST, Features(), api_version="1.41"),
    ):
        assert not [name for name in silent if name.endswith("availability-zone")]


def test_volume_plugins_are_told_with_the_newest_tag_and_without() -> None:
    features = Features(volume_plugins=("local", "rexray/ebs:latest", "nfs:v2", "b d"))
    got = [name for name in advertised(HOST, features, api_version="1.41") if "plugin" in name]
    assert sorted(got) == [
        "ecs.capability.docker-plugin.local",
        "ecs.capability.docker-plugin.nfs.v2",
        "ecs.capability.docker-plugin.rexray/ebs",
        "ecs.capability.docker-plugin.rexray/ebs.latest",
    ]


def test_interfaces_are_offered_to_amazon_alone_and_not_outside_of_ec2() -> None:
    features = Features(eni=True, eni_trunking=True, eni_blocks_imds=True)

    def told(features: Features, *, external: bool = False) -> set[str]:
        got = towards_ecs(HOST, features, api_version="1.41", external=external)
        return {name.removeprefix("ecs.capability.") for name in got if "task-eni" in name}

    assert told(features) == {
        "task-eni",
        "task-eni.ipv6",
        "task-eni-block-instance-metadata",
        "task-eni-trunking",
    }
    assert told(Features(eni=True)) == {"task-eni", "task-eni.ipv6"}
    assert told(Features(eni_trunking=True, eni_blocks_imds=True)) == set()
    assert told(features, external=True) == set()
    ours = advertised(HOST, features, api_version="1.41")
    assert [name for name in ours if "task-eni" in name] == ["ecs.capability.task-eni"]


def test_faults_are_offered_where_the_kernel_can_do_them_and_not_by_external_hosts() -> None:
    name = "ecs.capability.fault-injection"
    able, unable = Features(faults=True), Features()
    for told in (advertised, towards_ecs):
        assert name in told(HOST, able, api_version="1.41")
        assert name not in told(HOST, unable, api_version="1.41")
    assert name not in towards_ecs(HOST, able, api_version="1.41", external=True)


def test_efs_needs_a_kernel_with_nfs_or_the_plugin() -> None:
    def told(features: Features) -> set[str]:
        got = advertised(HOST, features, api_version="1.41")
        return {name.rpartition(".")[2] for name in got if ".efs" in name}

    assert told(Features()) == set()
    assert told(Features(nfs=True)) == {"efs"}
    assert told(Features(efs_auth=True)) == {"efs", "efsAuth"}


def test_fargate_is_offered_where_its_promises_are_kept() -> None:
    def offered(*, task_limits: bool, awsvpc: bool = True) -> bool:
        features = Features(fargate=True, task_limits=task_limits, awsvpc=awsvpc)
        got = advertised(HOST, features, api_version="1.41")
        return "ecs-host-agent.fargate" in got

    assert offered(task_limits=True)
    assert not offered(task_limits=False)
    assert not offered(task_limits=True, awsvpc=False)


def test_fargate_of_all_clusters_is_offered_where_fargate_is() -> None:
    def offered(*, task_limits: bool) -> bool:
        features = Features(fargate=True, fargate_all_clusters=True, task_limits=task_limits)
        return "ecs-host-agent.fargate-all-clusters" in advertised(
            HOST, features, api_version="1.41"
        )

    assert offered(task_limits=True)
    assert not offered(task_limits=False)


def test_the_pool_of_tasks_is_told_where_tasks_have_addresses() -> None:
    def told(*, awsvpc: bool) -> str | None:
        got = advertised(HOST, Features(awsvpc=awsvpc), api_version="1.41", task_pool="10.1.0.0/24")
        return got.get("ecs-host-agent.task-pool")

    assert told(awsvpc=True) == "10.1.0.0/24"
    assert told(awsvpc=False) is None


def test_a_gpu_host_names_its_driver() -> None:
    host = HostResources(cpu_units=1, memory_mib=1, gpu_driver_version="580.1")
    got = advertised(host, Features(), api_version="1.41")
    assert got["ecs.capability.gpu-driver-version"] == "580.1"
    assert got["ecs.capability.nvidia-driver-version.580.1"] == ""


def test_custom_attributes_do_not_hide_ours() -> None:
    got = advertised(HOST, Features(), api_version="1.41", custom={"ecs.os-type": "plan9"})
    assert got["ecs.os-type"] == "linux"


@pytest.mark.parametrize("custom", [{"a b": ""}, {"": "x"}, {"a": "x" * 129}, {"a": " x"}])
def test_bad_custom_attributes_are_named(custom: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ECS_INSTANCE_ATTRIBUTES"):
        advertised(HOST, Features(), api_version="1.41", custom=custom)


def test_amazon_ecs_is_told_the_same_but_for_what_it_would_misunderstand() -> None:
    ours = advertised(HOST, Features(), api_version="1.41", custom={"rack": "r1"})
    theirs = towards_ecs(HOST, Features(), api_version="1.41")
    assert set(ours) - set(theirs) == {
        "rack",
        "ecs.capability.task-eni",
        "ecs.cpu-architecture",
        CONTROL_SECRETS,
        EXECUTE_COMMAND,
    }
    assert set(theirs) - set(ours) == {TASK_NETWORK}
    assert theirs[TASK_NETWORK] == "1"
    assert all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def test_an_external_host_names_its_processor() -> None:
    got = towards_ecs(HOST, Features(awsvpc=False), api_version="1.41", external=True)
    assert got["ecs.capability.external"] == ""
    assert got["ecs.cpu-architecture"] == "arm64"
    assert got["ecs.os-type-detailed"] == "debian_12"
    assert TASK_NETWORK not in got
    assert "ecs.capability.task-eni" not in got


def test_the_detailed_system_may_be_given() -> None:
    bare = HostResources(cpu_units=1, memory_mib=1)
    got = towards_ecs(bare, Features(), api_version="1.41", external=True)
    assert got["ecs.os-type-detailed"] == "LINUX"
    assert "ecs.cpu-architecture" not in got
    got = towards_ecs(HOST, Features(), api_version="1.41", detailed_os_family="ubuntu_24.04")
    assert got["ecs.os-type-detailed"] == "ubuntu_24.04"


@pytest.mark.parametrize("told", [advertised, towards_ecs])
def test_roles_of_tasks_are_taken_unless_the_settings_say_otherwise(told: Any) -> None:
    usual = "com.amazonaws.ecs.capability.task-iam-role"
    on_host = f"{usual}-network-host"
    assert {usual, on_host} <= set(told(HOST, Features(), api_version="1.41"))
    assert usual not in told(HOST, Features(task_roles=False), api_version="1.41")
    assert on_host not in told(HOST, Features(task_roles_on_host=False), api_version="1.41")
    assert not {usual, on_host} & set(told(HOST, Features(), api_version="1.18"))


def test_names_of_service_connect_are_found_where_they_are_answered() -> None:
    answering = Features(task_names=True)
    assert SERVICE_CONNECT in advertised(HOST, answering, api_version="1.41")
    assert SERVICE_CONNECT not in advertised(HOST, Features(), api_version="1.41")
    without = Features(task_names=True, awsvpc=False)
    assert SERVICE_CONNECT not in advertised(HOST, without, api_version="1.41")
    # It is our control that says the names.
    assert SERVICE_CONNECT not in towards_ecs(HOST, answering, api_version="1.41")
