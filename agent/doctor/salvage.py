"""The valid settings of a host whose configuration has mistakes.

Reads the settings files. With these settings, checks can continue with what the operator meant, and
the archive knows which secrets to omit.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Settings, files, json_file, json_file_of, load
from agent.config.settings import variables
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
"""These belong together: if one is set, all are used from the same source."""
_WRONG = re.compile(rf"^{files.ENVIRONMENT}: (\w+)", re.MULTILINE)


def usable(environ: Mapping[str, str], paths: Sequence[Path]) -> Settings:
    """Return the valid settings, with defaults for all others. Blocks; never fails."""
    names = {variable.name for variable in variables().values()}
    given: dict[str, str] = {}
    for path in paths:
        given |= _of_file(path)
    json_path = given.get("ECS_AGENT_CONFIG_FILE_PATH") or (
        json_file_of(paths[-1]) if paths else ""
    )
    if json_path:
        given = {**_of_json(Path(json_path)), **given}
    given |= environ
    right = {name: value for name, value in given.items() if name in names}
    while True:
        try:
            # Problems are reported separately; warnings would name the environment, not the files.
            return dataclasses.replace(load(right, ()), warnings=())
        except ConfigError as error:
            wrong = right.keys() & set(_WRONG.findall(str(error)))
            if not wrong:
                return Settings()
            right = {name: value for name, value in right.items() if name not in wrong}


def without_what_files_give(environ: Mapping[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Return the environment without names of AWS tools that the files also set. Blocks.

    The operator's shell may have its own keys and proxies. The agent's service does not see them,
    so it must be checked with what its files say.
    """
    given: set[str] = set()
    for path in paths:
        given |= _of_file(path).keys()
    if given & _KEYS:
        given |= _KEYS
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("ECS_") or name.upper() not in given
    }


def _of_file(path: Path) -> dict[str, str]:
    try:
        values = files.read(path, required=False).values
    except ConfigError:
        return {}  # reported in its own line
    return {name: value.value for name, value in values.items()}


def _of_json(path: Path) -> dict[str, str]:
    try:
        values = json_file.read(path, named=False).values
    except ConfigError:
        return {}
    return {name: value.value for name, value in values.items()}
