from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config import Settings
from agent.doctor.salvage import usable

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
