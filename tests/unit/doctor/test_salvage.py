from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config import Settings
from agent.doctor.salvage import usable, without_what_files_give

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_right_is_used_whatever_else_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text(
        "ECS_CLUSTER=prod\nECS_CLUSTR=x\nECS_CONTROL_TOKEN_FILE=/etc/ecs/token\nno setting\n"
        "ECS_LOGLEVEL=loud\nECS_RESERVED_MEMORY=-1\nECS_ENGINE_AUTH_TYPE=docker\n"
    )
    found = usable({"ECS_LOGFILE": "/var/log/x", "PATH": "/bin"}, [config, tmp_path / "none"])
    assert found.cluster == "prod"
    assert str(found.control_token_file) == "/etc/ecs/token"
    assert str(found.log_file) == "/var/log/x"
    assert (found.log_level, found.reserved_memory_mib, found.warnings) == ("info", 0, ())


def test_a_file_that_cannot_be_read_gives_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_bytes(b"\xff\xfe")
    assert usable({}, [config, tmp_path]) == Settings()


def test_pairs_that_belong_together_stay_together(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text(
        "ECS_EXTERNAL=true\nAWS_DEFAULT_REGION=eu-west-1\nECS_CLUSTR=x\n"
        "AWS_ACCESS_KEY_ID=half\nECS_LOGLEVEL=loud\n"
    )
    (tmp_path / "ecs.config.json").write_text('{"ReservedMemory": 64, "External": false}')
    found = usable({}, [config])
    assert (found.external, found.aws_region, found.reserved_memory_mib) == (True, "eu-west-1", 64)
    assert not found.aws_access_key_id


def test_of_two_controls_the_endpoint_stays(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text(
        "ECS_EXTERNAL=true\nAWS_DEFAULT_REGION=eu-west-1\nECS_CONTROL_ENDPOINT=http://c:1\n"
    )
    found = usable({}, [config])
    assert (found.control_endpoint, found.external) == ("http://c:1", False)


def test_keys_of_whoever_looks_yield_to_those_of_the_host(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text("AWS_ACCESS_KEY_ID=host\nAWS_SECRET_ACCESS_KEY=host\nHTTPS_PROXY=p:1\n")
    mine = {
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SESSION_TOKEN": "mine",
        "https_proxy": "q:1",
        "ECS_CLUSTER": "x",
        "HOME": "/root",
    }
    assert without_what_files_give(mine, [config]) == {"ECS_CLUSTER": "x", "HOME": "/root"}
    config.write_text("")
    assert without_what_files_give(mine, [config]) == mine
