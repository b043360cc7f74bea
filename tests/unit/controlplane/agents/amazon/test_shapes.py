"""What Go's decoder must find in an order: defaults that differ are said, nothing is null."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.controlplane.agents.amazon import shapes
from agent.model.payload import (
    Container,
    EngineConfig,
    HostVolume,
    MountPoint,
    PortMapping,
    RestartPolicy,
    Secret,
    TaskPayload,
    Volume,
    decode,
    encode,
)
from agent.model.status import DesiredStatus

TASK = TaskPayload(
    arn="arn",
    family="web",
    version="3",
    cpu=0.25,
    memory=512,
    network_mode="bridge",
    containers=[
        Container(
            name="a",
            image="i",
            cpu=10,
            port_mappings=[
                PortMapping(container_port=80),
                PortMapping(container_port=53, protocol="udp"),
                PortMapping(container_port_range="8000-8010", protocol=None),
            ],
            mount_points=[MountPoint(source_volume="v", container_path="/v")],
            environment={"EMPTY": ""},
            docker_config=EngineConfig(host_config={"NetworkMode": "bridge"}),
            secrets=[Secret(name="s", value_from="arn")],
            restart_policy=RestartPolicy(),
        ),
        Container(name="b", image="i", essential=False),
    ],
    volumes=[
        Volume(name="v"),
        Volume(name="h", host=HostVolume(source_path="/tmp")),
        Volume(name="d", type="docker", docker_volume_configuration={"scope": "task", "x": None}),
    ],
)


def _texts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _texts(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _texts(item)]
    return [value]


def test_defaults_are_said_and_nothing_is_null() -> None:
    frame = shapes.write("PayloadMessage", {"tasks": [shapes.task(TASK)]})
    (task,) = json.loads(frame)["message"]["tasks"]
    assert None not in _texts(task)
    assert task["desiredStatus"] == "RUNNING"
    assert (task["version"], task["cpu"], task["memory"]) == ("3", 0.25, 512)
    a, b = task["containers"]
    assert (a["essential"], b["essential"]) == (True, False)
    assert [m["protocol"] for m in a["portMappings"]] == ["tcp", "udp", "tcp"]
    assert a["mountPoints"][0]["readOnly"] is False
    assert a["restartPolicy"]["enabled"] is False
    assert a["environment"] == {"EMPTY": ""}
    assert isinstance(a["dockerConfig"]["hostConfig"], str)
    local, host, docker = task["volumes"]
    assert local["host"] == {}
    assert host["host"] == {"sourcePath": "/tmp"}
    assert docker["dockerVolumeConfiguration"] == {"scope": "task"}
    assert "host" not in docker


def test_our_own_decoder_reads_the_same() -> None:
    shape = shapes.task(TASK)
    read = decode(json.dumps(shape).encode())
    plain = decode(encode(TASK))
    assert read.containers[1] == plain.containers[1]
    assert read.volumes[1:2] == plain.volumes[1:2]
    assert (read.cpu, read.memory, read.arn) == (plain.cpu, plain.memory, plain.arn)


def test_a_stop_says_so() -> None:
    stop = TaskPayload(arn="arn", desired_status=DesiredStatus.STOPPED)
    assert json.loads(json.dumps(shapes.task(stop)))["desiredStatus"] == "STOPPED"


@pytest.mark.parametrize("frame", ["", "{}", "\r\n\r\n{}", "Host: x\r\n\r\n{}", "Authorization: x"])
def test_telemetry_needs_its_block_of_headers(frame: str) -> None:
    with pytest.raises(shapes.FrameError):
        shapes.split_signed(frame)


def test_telemetry_is_behind_its_headers() -> None:
    frame = 'Authorization: AWS4\r\nHost: h\r\nX-Amz-Date: d\r\n\r\n{"type":"x"}\r\n\r\n'
    assert shapes.split_signed(frame) == '{"type":"x"}\r\n\r\n'
