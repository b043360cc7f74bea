"""``--console`` of ``control`` and ``standalone``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agent.cli import console_options
from agent.cli.control import control
from agent.cli.standalone import standalone
from agent.controlplane.console.admission import Console

if TYPE_CHECKING:
    import click


def test_its_choices_are_those_of_the_console() -> None:
    choices = (console_options.OFF, console_options.KEYS, console_options.READ_ONLY)
    assert choices == tuple(Console)
    for choice in choices:
        assert console_options.console({"console": choice}) is Console(choice)
        assert console_options.arguments({"console": choice}) == ["--console", choice]


@pytest.mark.parametrize(
    ("command", "default"), [(control, "off"), (standalone, "keys")], ids=["control", "standalone"]
)
def test_its_default_and_what_is_refused(command: click.Command, default: str) -> None:
    (option,) = [one for one in command.params if one.name == "console"]
    assert option.default == default
    result = CliRunner().invoke(command, ["--console", "open"])
    assert result.exit_code == 2
    assert "'open' is not one of 'off', 'keys', 'read-only'" in result.output
