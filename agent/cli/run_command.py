"""``ecs-agent run`` as click would have it: for help, completion and the manual page.

It is never run from here: ``agent.cli.run`` reads its command line itself, past click, because click
is not for the agent to load.
"""

from __future__ import annotations

import click


@click.command("run")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Settings file instead of /var/lib/ecs/ecs.config and /etc/ecs/ecs.config. The environment "
    "wins over it.",
)
def run_command(config: str | None) -> None:
    """Run the agent on this host. Needs root.

    It takes orders from the control endpoint that ECS_CONTROL_ENDPOINT names; without it, from
    Amazon ECS: in AWS_DEFAULT_REGION, on hosts that are no EC2 instance with ECS_EXTERNAL=true.
    `ecs-agent doctor` tells what is missing.

    SIGHUP reads the settings anew; tasks do not notice. SIGTERM stops the agent; tasks run on.

    Exit codes: 0 stopped on request, 1 failed, 2 bad command line, 5 a restart cannot help.
    """
    del config
