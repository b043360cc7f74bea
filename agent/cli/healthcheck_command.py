"""``ecs-agent healthcheck`` as a click command: only for help, completion and the manual page.

``agent.cli.healthcheck`` does the work without click, because it is run every few seconds.
"""

from __future__ import annotations

import click

from agent.cli import healthcheck


@click.command("healthcheck")
def healthcheck_command() -> int:
    """Tell by the exit code whether the agent answers: 0 if it does, else 1 with one line that says why.

    It requests http://localhost:51678/v1/metadata, and waits for at most 25 s. In its environment,
    ECS_AGENT_HEALTHCHECK_HOST replaces localhost, and ECS_INTROSPECTION_PORT the port. With port 0 it asks
    the agent's socket, for which it must run as root.

    In an image: HEALTHCHECK CMD ["ecs-agent", "healthcheck"].
    """
    return healthcheck.main([])
