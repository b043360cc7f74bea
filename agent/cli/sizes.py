"""Sizes in options of the command line, such as ``512k``, ``64m``, ``2g`` or ``1t``.

Tests: ``tests/unit/cli/test_log_options.py``, ``tests/unit/cli/test_audit.py``.
"""

from __future__ import annotations

import re
from typing import Final

from agent.cli.client import CliError
from agent.errors import ExitCode

_SIZE: Final = re.compile(r"([0-9]{1,6})([kmgt])")
_UNITS: Final = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def size_bytes(option: str, text: str, *, least: str, off: str) -> int:
    """Return a size in bytes.

    Args:
        option: the name of the option, for errors.
        text: its value.
        least: the smallest size, in the same form.
        off: the option that turns off what the size is about.

    Raises:
        CliError: the text is not a size, or less than the smallest.
    """
    found = _parsed(text)
    if found is None:
        raise CliError(
            f"{option} {text}: is not a size; write a whole number with k, m, g or t, for example 512m",
            exit_code=ExitCode.USAGE,
        )
    if found < (_parsed(least) or 0):
        raise CliError(
            f"{option} {text}: is less than {least}; give more, or {off}",
            exit_code=ExitCode.USAGE,
        )
    return found


def _parsed(text: str) -> int | None:
    match = _SIZE.fullmatch(text.lower())
    return int(match[1]) * _UNITS[match[2]] if match else None
