from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition.rules import check_definition
from agent.controlplane.front.errors import ClientException
from tests.unit.controlplane.definition.builders import container, definition

REFUSED: list[tuple[dict[str, Any], str]] = [
    (definition(container(mountPoints=[{"sourceVolume": "v"}])), "Unknown volume 'v'."),
    (definition(container(mountPoints=[{}])), "Unknown volume ''."),
    (
        definition(container(mountPoints=[{"sourceVolume": "v"}]), volumes=[{"name": "v"}]),
        "needs a 'containerPath'",
    ),
    (
        definition(
            container(mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}] * 2),
            volumes=[{"name": "v"}],
        ),
        "Duplicate mount point '/v'",
    ),
    (
        definition(
            container(mountPoints=[{"sourceVolume": "v", "containerPath": "/v:ro"}]),
            volumes=[{"name": "v"}],
        ),
        "containerPath '/v:ro' must be an absolute path without colons",
    ),
    (
        definition(
            container(mountPoints=[{"sourceVolume": "v", "containerPath": "v"}]),
            volumes=[{"name": "v"}],
        ),
        "containerPath 'v' must be an absolute path",
    ),
    (
        definition(volumes=[{"name": "a", "host": {"sourcePath": "/a:/b"}}]),
        "the host path must not contain a colon",
    ),
    (definition(volumes=[{"name": "a"}, {"name": "a"}]), "Duplicate volume name 'a'"),
    (definition(volumes=[{}]), "The volume name '' is not valid"),
    (definition(volumes=[{"name": "a", "host": {"sourcePath": "x"}}]), "must be absolute"),
    (
        definition(volumes=[{"name": "a", "host": {}, "dockerVolumeConfiguration": {}}]),
        "can have only one of",
    ),
    (
        definition(
            volumes=[
                {"name": "a", "dockerVolumeConfiguration": {"scope": "task", "autoprovision": True}}
            ]
        ),
        "autoprovision",
    ),
    (definition(container(volumesFrom=[{"sourceContainer": "x"}])), "does not have"),
    (definition(container(volumesFrom=[{"sourceContainer": "web"}])), "names itself"),
]


@pytest.mark.parametrize(("request_", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(request_)
    assert text in str(caught.value)


def test_a_mount_of_a_volume_of_the_task_is_accepted() -> None:
    request = definition(
        container(mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}]),
        volumes=[{"name": "v", "host": {"sourcePath": "/srv"}}],
    )
    assert check_definition(request)["volumes"] == request["volumes"]


def test_a_volume_reads_back_as_the_service_shows_it() -> None:
    volumes = [
        {"name": "a"},
        {"name": "b", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}},
        {"name": "c", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/x"}},
    ]
    assert check_definition(definition(volumes=volumes))["volumes"] == [
        {"name": "a", "host": {}},
        {"name": "b", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/"}},
        {"name": "c", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/x"}},
    ]


EFS = {"fileSystemId": "fs-1"}
TLS = {"transitEncryption": "ENABLED"}


@pytest.mark.parametrize(
    ("efs", "text"),
    [
        (
            TLS | {"rootDirectory": "/x", "authorizationConfig": {"accessPointId": "p"}},
            "omitted or",
        ),
        ({"authorizationConfig": {"accessPointId": "p"}}, "when accessPointId is specified"),
        ({"authorizationConfig": {"iam": "ENABLED"}}, "when iam is specified"),
        ({"transitEncryptionPort": 2999}, "when transitEncryptionPort is specified"),
    ],
)
def test_what_an_efs_volume_cannot_ask_for_together(efs: dict[str, Any], text: str) -> None:
    volumes = [{"name": "v", "efsVolumeConfiguration": EFS | efs}]
    with pytest.raises(ClientException, match=text):
        check_definition(definition(volumes=volumes))


def test_an_efs_volume_with_all_that_goes_together() -> None:
    efs = EFS | TLS | {"authorizationConfig": {"accessPointId": "p", "iam": "ENABLED"}}
    volumes = [{"name": "v", "efsVolumeConfiguration": efs | {"transitEncryptionPort": 2999}}]
    assert check_definition(definition(volumes=volumes))
