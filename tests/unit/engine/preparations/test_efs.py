from __future__ import annotations

from typing import Any

import pytest

from agent.config.nfs_servers import NfsExport
from agent.engine.preparations.efs import (
    MOUNT_OPTIONS,
    PLUGIN,
    EfsMount,
    EfsSettings,
    EfsUnusable,
    efs_mount,
)
from agent.model.payload import Credentials
from tests.support.tasks import container, payload

NAS = {"fs-1": NfsExport("nas.example", "/exports/web")}
ARN = "arn:{}:ecs:{}:123456789012:task/default/0123456789abcdef0123456789abcdef"


def mount(given: dict[str, Any], host: EfsSettings | None = None, **task: Any) -> EfsMount:
    task = {"arn": ARN.format("aws", "eu-central-1")} | task
    return efs_mount(payload(container("a"), **task), "v", given, host or EfsSettings())


def nfs(server: str, path: str) -> EfsMount:
    options = {"type": "nfs", "device": f":{path}", "o": f"addr={server},{MOUNT_OPTIONS}"}
    return EfsMount("local", options)


@pytest.mark.parametrize(
    ("partition", "region", "server"),
    [
        ("aws", "eu-central-1", "fs-1.efs.eu-central-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "fs-1.efs.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "fs-1.efs.us-gov-west-1.amazonaws.com"),
    ],
)
def test_a_file_system_has_a_name_in_its_region(partition: str, region: str, server: str) -> None:
    assert mount({"fileSystemId": "fs-1"}, arn=ARN.format(partition, region)) == nfs(server, "/")


def test_the_root_directory_is_below_the_export() -> None:
    given = {"fileSystemId": "fs-1", "rootDirectory": "/data/web/"}
    assert mount(given).options["device"] == ":/data/web"
    assert mount(given, EfsSettings(servers=NAS)) == nfs("nas.example", "/exports/web/data/web")


def test_another_server_stands_for_a_file_system() -> None:
    assert mount({"fileSystemId": "fs-1"}, EfsSettings(servers=NAS)) == nfs(
        "nas.example", "/exports/web"
    )


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({"transitEncryption": "ENABLED"}, "encryption in transit"),
        (
            {"transitEncryption": "ENABLED", "authorizationConfig": {"iam": "ENABLED"}},
            "IAM authorization",
        ),
    ],
)
def test_protection_is_given_or_refused(extra: dict[str, Any], what: str) -> None:
    given = {"fileSystemId": "fs-1", **extra}
    with pytest.raises(EfsUnusable, match=f"{what}, which needs Amazon's volume plugin"):
        mount(given)
    with pytest.raises(
        EfsUnusable, match=f"{what}, which nas.example does not provide.*_TRUSTED=true"
    ):
        mount(given, EfsSettings(servers=NAS))
    assert mount(given, EfsSettings(servers=NAS, trusted=True)) == nfs(
        "nas.example", "/exports/web"
    )


def test_an_access_point_needs_an_entry_of_its_own() -> None:
    given = {"fileSystemId": "fs-1", "authorizationConfig": {"accessPointId": "fsap-2"}}
    with pytest.raises(EfsUnusable, match="an entry for fs-1/fsap-2 in ECS_EFS_SERVERS"):
        mount(given, EfsSettings(servers=NAS, trusted=True))
    points = NAS | {"fs-1/fsap-2": NfsExport("nas.example", "/exports/points/2")}
    assert mount(given, EfsSettings(servers=points)) == nfs("nas.example", "/exports/points/2")


def test_amazons_plugin_mounts_what_a_plain_mount_cannot() -> None:
    given = {
        "fileSystemId": "fs-1",
        "rootDirectory": "/",
        "transitEncryption": "ENABLED",
        "transitEncryptionPort": 2999,
        "authorizationConfig": {"accessPointId": "fsap-2", "iam": "ENABLED"},
    }
    role = Credentials(credentials_id="id-1", role_arn="r")
    assert mount(given, EfsSettings(plugin=True), role_credentials=role) == EfsMount(
        PLUGIN,
        {
            "type": "efs",
            "device": "fs-1",
            "o": "tls,tlsport=2999,iam,awscredsuri=/v2/credentials/id-1,accesspoint=fsap-2",
        },
    )
    with pytest.raises(EfsUnusable, match="its task has no role"):
        mount(given, EfsSettings(plugin=True))
    plain = mount({"fileSystemId": "fs-1", "rootDirectory": "/x"}, EfsSettings(plugin=True))
    assert plain == EfsMount(PLUGIN, {"type": "efs", "device": "fs-1:/x"})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "has no fileSystemId"),
        ({"fileSystemId": "fs-1", "rootDirectory": "/a/../.."}, "rootDirectory with"),
        ({"fileSystemId": "fs-1", "rootDirectory": "/a,exec"}, "rootDirectory with"),
    ],
)
def test_what_can_never_be_mounted(given: dict[str, Any], text: str) -> None:
    with pytest.raises(EfsUnusable, match=text):
        mount(given)


def test_a_region_without_known_names_is_refused_with_the_mend() -> None:
    with pytest.raises(EfsUnusable, match="set ECS_EFS_SERVERS of this host for fs-1"):
        mount({"fileSystemId": "fs-1"}, arn=ARN.format("aws-iso", "us-iso-east-1"))
