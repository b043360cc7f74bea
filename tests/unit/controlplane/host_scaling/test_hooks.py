"""The file that names the programs of hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.host_scaling.hooks import HostHooks, Pair, read
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TRUE = "/bin/true"


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "hooks.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


async def test_programs_are_read_and_read_again(tmp_path: Path) -> None:
    file = written(tmp_path, {"web": {"command": [TRUE, "-v"], "maximumSize": 3}})
    hooks = await HostHooks.open(file)
    found = hooks.of("web")
    assert found is not None
    assert (found.command, found.minimum_size, found.maximum_size) == ((TRUE, "-v"), 0, 3)
    assert hooks.of("other") is None
    file.write_text("{")
    with pytest.raises(ConfigError):
        await hooks.reload()
    assert hooks.of("web") == found, "the old ones stay"
    written(tmp_path, {"other": {"command": [TRUE], "maximumSize": 3}})
    called: list[int] = []
    hooks.on_reload.append(lambda: called.append(1))
    await hooks.reload()
    assert (hooks.of("web"), called) == (None, [1])


async def test_troubles_are_told_once_for_a_capacity_provider(tmp_path: Path) -> None:
    hooks = await HostHooks.open(written(tmp_path, {}))
    assert hooks.problem() == ""
    for cluster in ("a", "b"):
        hooks.troubles[Pair(cluster, "web")] = "It does not work."
    assert hooks.trouble("web") == "It does not work."
    assert hooks.problem() == "hosts of web: It does not work."
    assert (await HostHooks.open(None)).of("web") is None


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("[]", "write a JSON object"),
        (
            '{"web": {"command": ["/bin/true"], "maximumSize": 1, "size": 2}}',
            "unknown field `size`",
        ),
        ({"web": {"command": [TRUE]}}, "missing required field `maximumSize`"),
        ({"web": {"command": [], "maximumSize": 1}}, "absolute path"),
        (
            {"web": {"command": ["true"], "maximumSize": 1}},
            "web: command must begin with the absolute",
        ),
        ({"web": {"command": ["/no/such"], "maximumSize": 1}}, "/no/such: No such file"),
        ({"web": {"command": ["/etc/passwd"], "maximumSize": 1}}, "chmod"),
        ({"web": {"command": ["/bin"], "maximumSize": 1}}, "is not a program"),
        ({"web": {"command": [TRUE, "a\0"], "maximumSize": 1}}, "NUL"),
        ({"web": {"command": [TRUE], "maximumSize": 1, "minimumSize": 2}}, "minimumSize and"),
        ({"web": {"command": [TRUE], "maximumSize": 1, "timeLimitSeconds": 0}}, "timeLimitSeconds"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, hook: Any, text: str) -> None:
    with pytest.raises(ConfigError, match="--host-hooks") as caught:
        read(written(tmp_path, hook))
    assert text in str(caught.value)


def test_a_missing_file_and_a_program_that_anybody_may_change_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.json")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    with pytest.raises(ConfigError, match="every user"):
        read(written(tmp_path, {"web": {"command": [str(program)], "maximumSize": 1}}))
