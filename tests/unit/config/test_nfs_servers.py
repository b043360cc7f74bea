from __future__ import annotations

import json

import pytest

from agent.config.nfs_servers import NfsExport, find_export, parse_nfs_servers


def test_servers_are_found_by_file_system_access_point_and_all_others() -> None:
    servers = parse_nfs_servers(
        json.dumps(
            {
                "fs-1": "nas:/exports/one/",
                "fs-1/fsap-1": "[fd00::1]:/points/1",
                "*": "nas:/exports/{fileSystemId}/{accessPointId}",
            }
        )
    )
    assert find_export(servers, "fs-1") == NfsExport("nas", "/exports/one")
    assert find_export(servers, "fs-1", "fsap-1") == NfsExport("fd00::1", "/points/1")
    assert find_export(servers, "fs-2") == NfsExport("nas", "/exports/fs-2")
    assert find_export(servers, "fs-2", "fsap-9") == NfsExport("nas", "/exports/fs-2/fsap-9")


def test_the_export_of_a_file_system_is_none_for_its_access_points() -> None:
    servers = parse_nfs_servers('{"fs-1": "nas:/one", "*": "nas:/{fileSystemId}"}')
    assert find_export(servers, "fs-1", "fsap-1") is None
    assert find_export({}, "fs-1") is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("fs-1=nas", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"fs 1": "nas:/x"}', "has the key 'fs 1'"),
        ('{"fs-1": "nas"}', "has no export at 'fs-1'"),
        ('{"fs-1": 7}', "has no export at 'fs-1'"),
        ('{"fs-1": "nas:/a,b"}', "has no export at 'fs-1'"),
        ('{"fs-1": "nas:/{fileSystemId}"}', "has {fileSystemId} at 'fs-1'"),
        ('{"*": "nas:/{region}"}', r"has {region} at '\*'"),
    ],
)
def test_what_is_wrong_is_named(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_nfs_servers(text)
