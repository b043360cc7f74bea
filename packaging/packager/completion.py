"""Completion scripts for bash, zsh and fish, from click's own templates. Pure.

The scripts call ``ecs-agent`` itself on TAB, so they know every command and option of the installed
version, and the tasks of the host.
"""

from __future__ import annotations

from click.shell_completion import get_completion_class

from agent.cli import app

PROGRAM = "ecs-agent"
PLACES = {
    "bash": f"usr/share/bash-completion/completions/{PROGRAM}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROGRAM}",
    "fish": f"usr/share/fish/vendor_completions.d/{PROGRAM}.fish",
}
"""Where each shell looks for its script, relative to the root."""


def script(shell: str) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``."""
    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101 - click has always supported these three
    variable = f"_{PROGRAM.replace('-', '_')}_COMPLETE".upper()
    made = kind(app.group, {}, PROGRAM, variable)
    # Not .source(): it would run this machine's bash to check its version.
    return (made.source_template % made.source_vars()).strip() + "\n"
