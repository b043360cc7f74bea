"""``ecs-agent run`` as a click command: only for help, completion and the manual page.

The agent is never started from here: ``agent.cli.run`` parses its command line itself, because the
agent must not load click.
"""

from __future__ import annotations

import click


@click.command("run")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Settings file to read instead of /var/lib/ecs/ecs.config and /etc/ecs/ecs.config. Environment "
    "variables take precedence over it.",
)
def run_command(config: str | None) -> None:
    """Run the agent on this host. Needs root.

    The agent gets its tasks from the control endpoint in ECS_CONTROL_ENDPOINT. If that is not set, it
    uses Amazon ECS in the region AWS_DEFAULT_REGION; hosts outside EC2 also need ECS_EXTERNAL=true.
    `ecs-agent doctor` shows what is missing.

    SIGHUP reloads the settings without affecting tasks. SIGTERM stops the agent; tasks keep running.

    Exit codes: 0 stopped on request, 1 failure, 2 bad command line, 5 failure that a restart cannot
    fix.
    """
    del config
