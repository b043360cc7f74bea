from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.engine import shared_network
from agent.engine.container_body import ContainerContext, body
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.volumes import volume_sources
from agent.errors import PayloadError
from agent.model import ids
from agent.model.payload import (
    Association,
    Container,
    EngineConfig,
    HostVolume,
    MountPoint,
    PortMapping,
    Volume,
    VolumeFrom,
)
from agent.network.names.resolvers import Resolvers
from tests.support.tasks import ARN, container, payload

AROUND = ContainerContext(cluster="prod", owner="owner-1", sandbox_id="sandbox-id")


def built(
    given: Container, *others: Container, around: ContainerContext = AROUND, **fields: Any
) -> dict[str, Any]:
    task = payload(given, *others, **fields)
    provision = Provision(mount_sources=volume_sources(task))
    return body(task, given, replace(around, provision=provision))


def config(**values: Any) -> EngineConfig:
    return EngineConfig(config=values)


def host_config(**values: Any) -> EngineConfig:
    return EngineConfig(host_config=values)


def name_of(container_name: str) -> str:
    return ids.container_engine_name(ARN, "web", "1", container_name)


def test_a_plain_container() -> None:
    assert built(container("a")) == {
        "Image": "busybox",
        "Env": [],
        "Labels": {
            "com.amazonaws.ecs.task-arn": ARN,
            "com.amazonaws.ecs.container-name": "a",
            "com.amazonaws.ecs.task-definition-family": "web",
            "com.amazonaws.ecs.task-definition-version": "1",
            "com.amazonaws.ecs.cluster": "prod",
            "ecs-host-agent.owner": "owner-1",
        },
        "HostConfig": {"NetworkMode": "none", "CpuShares": 2},
    }


def test_a_container_is_made_in_the_group_of_its_task_whatever_its_order_says() -> None:
    task = payload(container("a"), container("b", memory=64), memory=128)
    around = replace(AROUND, provision=Provision(cgroup_parent="/ecs/o/t", memory_mib=128))
    a, b = (body(task, each, around)["HostConfig"] for each in task.containers)
    assert (a["CgroupParent"], b["CgroupParent"]) == ("/ecs/o/t", "/ecs/o/t")
    assert (a["Memory"], b["Memory"]) == (128 << 20, 64 << 20)
    own = container("a", docker_config=host_config(CgroupParent="/elsewhere"))
    assert body(payload(own), own, around)["HostConfig"]["CgroupParent"] == "/ecs/o/t"


def test_command_entry_point_and_environment() -> None:
    a = container("a", command=["x"], entry_point=["sh", "-c"], environment={"A": "1", "B": ""})
    given = built(a)
    assert (given["Cmd"], given["Entrypoint"]) == (["x"], ["sh", "-c"])
    assert given["Env"] == ["A=1", "B="]


REGIONS = ["AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"]


@pytest.mark.parametrize(
    ("own", "provision", "image", "env"),
    [
        ({"A": "1"}, Provision(), {"PATH"}, ["A=1", *REGIONS]),
        ({}, Provision(), set(), REGIONS),
        ({"AWS_REGION": "x"}, Provision(), set(), ["AWS_REGION=x"]),
        ({"AWS_DEFAULT_REGION": ""}, Provision(), set(), ["AWS_DEFAULT_REGION="]),
        ({}, Provision(), {"AWS_REGION"}, []),
        ({}, Provision(), {"AWS_DEFAULT_REGION"}, []),
        ({}, Provision(file_environment={"a": {"AWS_REGION": "f"}}), set(), ["AWS_REGION=f"]),
        ({}, Provision(secret_environment={"a": {"AWS_REGION": "s"}}), set(), ["AWS_REGION=s"]),
    ],
)
def test_the_region_is_given_where_nothing_sets_it(
    own: dict[str, str], provision: Provision, image: set[str], env: list[str]
) -> None:
    a = container("a", environment=own)
    around = replace(
        AROUND, region="eu-west-1", provision=provision, image_variables=frozenset(image)
    )
    assert body(payload(a), a, around)["Env"] == env


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (None, ["x"]),
        ("", ["x"]),
        ("{}", ["x"]),
        ({}, ["x"]),
        ({"command": None}, ["x"]),
        ({"command": ["y", "z"]}, ["y", "z"]),
        ('{"command": ["y"]}', ["y"]),
        ({"command": []}, []),
    ],
)
def test_an_override_of_the_command_wins(overrides: Any, command: list[str]) -> None:
    assert built(container("a", command=["x"], overrides=overrides))["Cmd"] == command


@pytest.mark.parametrize(
    "overrides",
    [
        "not json",
        "[1]",
        '"text"',
        {"cpu": 1},
        {"command": "x"},
        {"command": [1]},
        '{"a": ' * 100_000,
    ],
)
def test_other_overrides_are_refused(overrides: Any) -> None:
    with pytest.raises(PayloadError, match="overrides of container a") as caught:
        built(container("a", overrides=overrides))
    assert caught.value.name == "DockerClientConfigError"


@pytest.mark.parametrize(
    ("cpu", "shares"),
    [(-5, 2), (0, 2), (1, 2), (2, 2), (256, 256), (262_144, 262_144), (999_999, 262_144)],
)
def test_cpu_shares_stay_in_the_engines_range(cpu: int, shares: int) -> None:
    assert built(container("a", cpu=cpu))["HostConfig"]["CpuShares"] == shares


def test_memory_is_in_bytes() -> None:
    assert built(container("a", memory=128))["HostConfig"]["Memory"] == 134_217_728
    assert "Memory" not in built(container("a"))["HostConfig"]


# -- the payload's own engine configuration ----------------------------------------------------


def test_the_payloads_configuration_wins_over_ours_and_our_labels_over_it() -> None:
    a = container(
        "a",
        memory=64,
        docker_config=EngineConfig(
            config={
                "User": "nobody",
                "labels": {"mine": "1", "com.amazonaws.ecs.cluster": "forged"},
                "Image": "other",
            },
            host_config={"Memory": 1, "CapDrop": ["ALL"], "CpuShares": 7},
        ),
    )
    given = built(a)
    assert given["User"] == "nobody"
    assert given["Image"] == "other"
    assert given["Labels"]["mine"] == "1"
    assert given["Labels"]["com.amazonaws.ecs.cluster"] == "prod"
    assert "labels" not in given
    assert given["HostConfig"] == {
        "NetworkMode": "none",
        "CpuShares": 7,
        "Memory": 1,
        "CapDrop": ["ALL"],
    }


@pytest.mark.parametrize(
    "key", ["HostConfig", "hostconfig", "NetworkingConfig", "networkingCONFIG"]
)
def test_config_cannot_smuggle_in_what_stands_beside_it(key: str) -> None:
    """The engine reads keys in any case, and both of two that differ in case."""
    a = container("a", docker_config=config(**{key: {"Privileged": True}, "User": "x"}))
    given = built(a)
    assert [k for k in given if k.lower() == "hostconfig"] == ["HostConfig"]
    assert "Privileged" not in given["HostConfig"]
    assert not [k for k in given if k.lower() == "networkingconfig"]
    assert given["User"] == "x"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (EngineConfig(config="{"), "DockerClientConfigError"),
        (EngineConfig(config="[]"), "DockerClientConfigError"),
        (EngineConfig(config="1"), "DockerClientConfigError"),
        (EngineConfig(config='{"a":' * 100_000), "DockerClientConfigError"),
        (EngineConfig(host_config="nope"), "HostConfigError"),
        (EngineConfig(host_config='"x"'), "HostConfigError"),
        (EngineConfig(config={"Labels": [1]}), "DockerClientConfigError"),
        (EngineConfig(config={"Labels": {"a": 1}}), "DockerClientConfigError"),
    ],
)
def test_engine_configuration_that_cannot_be_read(given: EngineConfig, name: str) -> None:
    with pytest.raises(PayloadError) as caught:
        built(container("a", docker_config=given))
    assert caught.value.name == name


def test_empty_engine_configuration_changes_nothing() -> None:
    assert built(container("a", docker_config=EngineConfig(config={}))) == built(container("a"))


@pytest.mark.parametrize("key", ["Privileged", "privileged", "PRIVILEGED"])
def test_privileged_mode_has_one_spelling(key: str) -> None:
    a = container("a", docker_config=host_config(**{key: True}))
    assert built(a)["HostConfig"]["Privileged"] is True


def test_a_health_check_type_needs_a_health_check() -> None:
    with pytest.raises(PayloadError, match="no health check") as caught:
        built(container("a", health_check_type="docker"))
    assert caught.value.name == "DockerClientConfigError"
    check = {"Test": ["CMD", "true"]}
    given = built(
        container("a", health_check_type="docker", docker_config=config(healthcheck=check))
    )
    assert given["Healthcheck"] == check


# -- what is the agent's alone ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"RestartPolicy": {"Name": "always"}}, "RestartPolicy"),
        ({"restartpolicy": {"name": "on-failure", "MaximumRetryCount": 3}}, "RestartPolicy"),
        ({"RestartPolicy": "always"}, "RestartPolicy"),
        ({"AutoRemove": True}, "AutoRemove"),
    ],
)
def test_the_engine_must_neither_restart_nor_remove_containers(
    given: dict[str, Any], named: str
) -> None:
    with pytest.raises(PayloadError, match=f"container a asks the engine .*{named}") as info:
        built(container("a", docker_config=host_config(**given)))
    assert info.value.name == "HostConfigError"


@pytest.mark.parametrize(
    "given",
    [
        {"RestartPolicy": None},
        {"RestartPolicy": {}},
        {"RestartPolicy": {"Name": ""}},
        {"RestartPolicy": {"Name": "no"}},
        {"AutoRemove": False},
    ],
)
def test_an_engine_that_is_told_not_to_is_fine(given: dict[str, Any]) -> None:
    assert built(container("a", docker_config=host_config(**given)))["HostConfig"]


# -- namespaces --------------------------------------------------------------------------------


def test_awsvpc_joins_the_sandbox() -> None:
    mixed_case = {"NetworkMode": "host", "CapDrop": ["ALL"], "Sysctls": {"net.core.somaxconn": "9"}}
    empty: dict[str, Any] = {
        "extraHosts": [],
        "links": None,
        "publishAllPorts": False,
        "portBindings": {},
    }
    own = {"exposedPorts": {"80/tcp": {}}, "hostname": ""}
    a = container(
        "a",
        port_mappings=[PortMapping(container_port=80)],
        docker_config=EngineConfig(config=own, host_config=mixed_case | empty),
    )
    given = built(a, network_mode="awsvpc")
    assert given["HostConfig"] == {
        "NetworkMode": "container:sandbox-id",
        "CpuShares": 2,
        "CapDrop": ["ALL"],
        "Sysctls": {"net.core.somaxconn": "9"},
    }
    assert set(given) == {"Image", "Env", "Labels", "HostConfig"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (config(Hostname="h"), "hostname"),
        (config(domainName="d"), "domain name"),
        (config(macAddress="0a"), "MAC address"),
        (host_config(extraHosts=["h:1.2.3.4"]), "extraHosts"),
        (host_config(Links=["l"]), "links"),
        (host_config(publishAllPorts=True), "published ports"),
        (host_config(portBindings={"80/tcp": [{"HostPort": "1"}]}), "published ports"),
    ],
)
def test_what_only_the_sandbox_can_have_is_refused_by_name(given: EngineConfig, named: str) -> None:
    """The engine refuses these, or worse takes them and does nothing."""
    a = container("a", docker_config=given)
    with pytest.raises(PayloadError, match=f"container a has {named}, which") as info:
        built(a, network_mode="awsvpc")
    assert info.value.name == "HostConfigError"
    assert built(a, network_mode="bridge")


def test_a_container_without_a_network_joins_none() -> None:
    docker = EngineConfig(
        config={"NetworkDisabled": True, "Hostname": "h"},
        host_config={"Dns": ["192.0.2.1"]},
    )
    a = container("a", docker_config=docker)
    given = built(a, network_mode="awsvpc")
    assert (given["HostConfig"]["NetworkMode"], given["Hostname"]) == ("none", "h")
    assert given["HostConfig"]["Dns"] == ["192.0.2.1"]
    assert shared_network.own_resolvers(payload(a, network_mode="awsvpc"), a) is None


DNS = {"dns": ["192.0.2.1", "2001:db8::1"], "DNSSEARCH": ["a.example"], "DnsOptions": ["ndots:2"]}


def test_name_servers_of_its_own_come_as_a_file() -> None:
    a = container("a", docker_config=host_config(**DNS))
    asked = shared_network.own_resolvers(payload(a, network_mode="awsvpc"), a)
    assert asked == Resolvers(
        servers=("192.0.2.1", "2001:db8::1"), search=("a.example",), options=("ndots:2",)
    )
    around = replace(AROUND, resolv_conf="/data/resolv/abc")
    given = built(a, network_mode="awsvpc", around=around)["HostConfig"]
    assert given["Binds"] == ["/data/resolv/abc:/etc/resolv.conf:z"]
    assert not {"Dns", "DnsSearch", "DnsOptions"} & given.keys()
    for mode in ("bridge", "host", "none"):
        assert shared_network.own_resolvers(payload(a, network_mode=mode), a) is None
        assert built(a, network_mode=mode)["HostConfig"]["Dns"] == DNS["dns"]


def test_the_file_is_as_writable_as_the_engines_own() -> None:
    around = replace(AROUND, resolv_conf="/data/resolv/abc")
    a = container("a", docker_config=host_config(**DNS, readonlyRootfs=True))
    given = built(a, network_mode="awsvpc", around=around)["HostConfig"]
    assert given["Binds"] == ["/data/resolv/abc:/etc/resolv.conf:ro,z"]


def test_a_file_that_the_task_mounts_itself_is_the_one_that_counts() -> None:
    around = replace(AROUND, resolv_conf="/data/resolv/abc")
    mount = MountPoint(source_volume="v", container_path="/etc/resolv.conf", read_only=True)
    a = container("a", docker_config=host_config(**DNS), mount_points=[mount])
    volumes = [Volume(name="v", host=HostVolume(source_path="/srv/resolv.conf"))]
    given = built(a, network_mode="awsvpc", around=around, volumes=volumes)["HostConfig"]
    assert given["Binds"] == ["/srv/resolv.conf:/etc/resolv.conf:ro"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"Dns": ["resolver.example"]}, "'resolver.example' is not an IP address"),
        ({"Dns": "192.0.2.1"}, "Dns of container a is not a list of strings"),
        ({"DnsSearch": ["a\nnameserver 1.1.1.1"]}, "DnsSearch of container a"),
        ({"DnsSearch": ["a b"]}, "DnsSearch of container a"),
        ({"DnsOptions": [7]}, "DnsOptions of container a"),
    ],
)
def test_name_servers_that_are_none(given: dict[str, Any], named: str) -> None:
    a = container("a", docker_config=host_config(**given))
    with pytest.raises(PayloadError, match=named) as info:
        shared_network.own_resolvers(payload(a, network_mode="awsvpc"), a)
    assert info.value.name == "HostConfigError"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pid_mode": "host"}, {"PidMode": "host"}),
        ({"ipc_mode": "host"}, {"IpcMode": "host"}),
        ({"ipc_mode": "none"}, {"IpcMode": "none"}),
        ({"pid_mode": "", "ipc_mode": None}, {}),
    ],
)
def test_namespaces_of_the_host(fields: dict[str, Any], expected: dict[str, str]) -> None:
    given = built(container("a"), **fields)["HostConfig"]
    assert {k: v for k, v in given.items() if k in ("PidMode", "IpcMode")} == expected


@pytest.mark.parametrize("fields", [{"pid_mode": "pod"}, {"ipc_mode": "pod"}])
def test_namespaces_that_this_agent_does_not_make(fields: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="not supported") as caught:
        built(container("a"), **fields)
    assert caught.value.name == "HostConfigError"


# -- links, volumes, devices -------------------------------------------------------------------


def test_links_name_containers_of_the_engine_in_bridge_mode_only() -> None:
    a = container("a", links=["db", "cache:c"])
    others = (container("db"), container("cache"))
    given = built(a, *others, network_mode="bridge")["HostConfig"]
    assert given["Links"] == [f"{name_of('db')}:db", f"{name_of('cache')}:c"]
    for mode in ("host", "none", "awsvpc"):
        assert "Links" not in built(a, *others, network_mode=mode)["HostConfig"]


def test_volumes_from_name_containers_of_the_engine() -> None:
    a = container(
        "a",
        volumes_from=[
            VolumeFrom(source_container="b"),
            VolumeFrom(source_container="c", read_only=True),
        ],
    )
    given = built(a, container("b"), container("c"))["HostConfig"]
    assert given["VolumesFrom"] == [name_of("b"), f"{name_of('c')}:ro"]


VOLUMES = [
    Volume(name="path", host=HostVolume(source_path="/srv")),
    Volume(name="scratch"),
    Volume(name="scratch2", host=HostVolume()),
    Volume(name="made", docker_volume_configuration={"scope": "task"}),
    Volume(name="shared", docker_volume_configuration={"scope": "shared"}),
]


@pytest.mark.parametrize(
    ("volume", "source"),
    [
        ("path", "/srv"),
        ("scratch", ids.volume_engine_name(ARN, "web", "1", "scratch")),
        ("scratch2", ids.volume_engine_name(ARN, "web", "1", "scratch2")),
        ("made", ids.volume_engine_name(ARN, "web", "1", "made")),
        ("shared", "shared"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_binds(volume: str, source: str, read_only: bool) -> None:
    mount = MountPoint(source_volume=volume, container_path="/data", read_only=read_only)
    given = built(container("a", mount_points=[mount]), volumes=VOLUMES)
    assert given["HostConfig"]["Binds"] == [f"{source}:/data" + (":ro" if read_only else "")]


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (
            MountPoint(source_volume="ghost", container_path="/d"),
            "Invalid volume referenced: ghost",
        ),
        (MountPoint(source_volume="path"), "no containerPath"),
    ],
)
def test_bad_mounts(mount: MountPoint, text: str) -> None:
    with pytest.raises(PayloadError, match=text) as caught:
        built(container("a", mount_points=[mount]), volumes=VOLUMES)
    assert caught.value.name == "HostConfigError"


def test_gpus_go_to_their_container_only() -> None:
    gpus = [
        Association(name="GPU-1", type="gpu", containers=["a"]),
        Association(name="GPU-2", type="gpu", containers=["a"]),
        Association(name="GPU-3", type="gpu", containers=["b"]),
        Association(name="acc", type="elastic-inference", containers=["a"]),
    ]
    a, b = container("a"), container("b")
    assert built(a, b, associations=gpus)["HostConfig"]["DeviceRequests"] == [
        {"DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}
    ]
    assert "DeviceRequests" not in built(container("c"), a, b, associations=gpus)["HostConfig"]


# -- ports -------------------------------------------------------------------------------------

PORTS = [
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=5353, protocol="udp"),
    PortMapping(container_port=443),
    PortMapping(container_port_range="9000-9002", protocol=None),
]
PICKED = {"a/443/tcp": [33000], "a/9000-9002/tcp": [34000, 34001, 34002]}


def test_ports_are_published_in_bridge_mode_only() -> None:
    a = container("a", port_mappings=PORTS)
    given = built(a, network_mode="bridge", around=ContainerContext(host_ports=PICKED))
    assert given["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}],
        "53/udp": [{"HostPort": "5353"}],
        "443/tcp": [{"HostPort": "33000"}],
        "9000/tcp": [{"HostPort": "34000"}],
        "9001/tcp": [{"HostPort": "34001"}],
        "9002/tcp": [{"HostPort": "34002"}],
    }
    assert set(given["ExposedPorts"]) == set(given["HostConfig"]["PortBindings"])
    for mode in ("host", "none", "awsvpc"):
        given = built(a, network_mode=mode)
        assert "ExposedPorts" not in given
        assert "PortBindings" not in given["HostConfig"]


def test_ports_that_were_not_picked_are_our_fault_and_named() -> None:
    a = container("a", port_mappings=[PortMapping(container_port=443)])
    with pytest.raises(PayloadError, match="a/443/tcp"):
        built(a, network_mode="bridge")


GIVEN = Provision(
    file_environment={"a": {"FILE": "f", "BOTH": "from file", "ALL": "from file"}},
    secret_environment={"a": {"ALL": "secret", "OWN": "secret"}},
    log_options={"a": {"splunk-token": "secret"}},
)


def given_to(container_: Container) -> dict[str, Any]:
    return body(payload(container_), container_, replace(AROUND, provision=GIVEN))


def test_secrets_win_over_the_definition_and_that_over_files() -> None:
    environment = {"BOTH": "explicit", "ALL": "explicit", "EMPTY": ""}
    splunk = host_config(logConfig={"type": "splunk"})
    made = given_to(container("a", environment=environment, docker_config=splunk))
    assert sorted(made["Env"]) == [
        "ALL=secret",
        "BOTH=explicit",
        "EMPTY=",
        "FILE=f",
        "OWN=secret",
    ]
    assert "Env" in given_to(container("b"))
    assert given_to(container("b"))["Env"] == []


def test_they_win_over_the_configuration_of_the_engine_too() -> None:
    both = EngineConfig(
        config={"env": ["ALL=config", "BOTH=config"]}, host_config={"LogConfig": {"Type": "x"}}
    )
    made = given_to(container("a", docker_config=both))
    assert sorted(made["Env"]) == ["ALL=secret", "BOTH=config", "FILE=f", "OWN=secret"]
    bad = EngineConfig(config={"Env": "canary"})
    with pytest.raises(PayloadError, match="Env of container a is not a list of texts"):
        given_to(container("a", docker_config=bad))


@pytest.mark.parametrize(
    "given",
    [
        {"LogConfig": {"Type": "splunk", "Config": {"splunk-url": "u", "splunk-token": "old"}}},
        {"logconfig": {"Type": "splunk", "config": {"splunk-url": "u"}}},
    ],
)
def test_secret_options_go_to_the_log_driver(given: dict[str, Any]) -> None:
    made = given_to(container("a", docker_config=EngineConfig(host_config=given)))
    (config_key,) = (key for key in made["HostConfig"]["LogConfig"] if key.lower() == "config")
    assert made["HostConfig"]["LogConfig"][config_key] == {
        "splunk-url": "u",
        "splunk-token": "secret",
    }
    assert "secret" not in str(given), "the order itself is left as it is"


def test_a_secret_option_needs_a_log_driver() -> None:
    with pytest.raises(PayloadError, match="has options for its log driver, but no log driver"):
        given_to(container("a"))
