"""Settings of a host whose configuration has mistakes: those that can be used, without the rest.

Reads the settings files. Checks go on with what the operator meant, as far as that can be known, and
the archive knows which secrets to leave out.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from agent.config import Settings, files, load
from agent.config.settings import variables
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def usable(environ: Mapping[str, str], paths: Sequence[Path]) -> Settings:
    """Return the settings that are given rightly, the defaults of all others. Blocks; never fails."""
    names = {variable.name for variable in variables().values()}
    given: dict[str, str] = {}
    for path in paths:
        try:
            values = files.read(path, required=False).values
        except ConfigError:
            continue  # its own line tells of it
        given |= {name: value.value for name, value in values.items() if name in names}
    given |= {name: value for name, value in environ.items() if name in names}
    right = {name: value for name, value in given.items() if _is_right(name, value)}
    # What was wrong is told by the problems; warnings would name the environment for files.
    return dataclasses.replace(load(right, ()), warnings=())


def _is_right(name: str, value: str) -> bool:
    try:
        load({name: value}, ())
    except ConfigError:
        return False
    return True
