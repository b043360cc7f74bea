"""The option that names the programs of hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.cli import host_hook_options
from agent.cli.client import CliError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_of_programs_is_checked_and_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "hooks.json"
    assert host_hook_options.arguments({"host_hooks": None}) == []
    with pytest.raises(CliError, match="--host-hooks"):
        host_hook_options.arguments({"host_hooks": path})
    path.write_text("{}")
    assert host_hook_options.arguments({"host_hooks": path}) == ["--host-hooks", str(path)]
