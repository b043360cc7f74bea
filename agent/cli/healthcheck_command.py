"""``ecs-agent healthcheck`` as a click command: only for help, completion and the manual page.

``agent.cli.healthcheck`` does the work without click, because it is run every few seconds.
"""

from __future__ import annotations

import click

from agent.cli import healthcheck


@click.command("healthcheck")
def healthcheck_command() -> int:
    """Tell by the exit code whether the agent answers: 0 if it does, else 1 and one line why.

    It asks the introspection endpoint, http://localhost:51678/v1/metadata, and waits for at most 25 s.
    ECS_AGENT_HEALTHCHECK_HOST names another host than localhost, ECS_INTROSPECTION_PORT another port;
    with port 0 it asks the agent's socket, for which it needs root.

    In an image: HEALTHCHECK CMD ["ecs-agent", "healthcheck"].
    """
    return healthcheck.main([])
