"""``ecs-agent control``: the control endpoint as a process of its own.

Sets up logging, turns SIGTERM and SIGINT into an orderly end and SIGHUP into a reading of the token
file, and words what keeps it from listening. Everything else is ``agent.controlplane.server``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent import logs
from agent.cli import listen
from agent.cli.client import CliError
from agent.config import load, values
from agent.config.settings import variables
from agent.errors import ExitCode
from agent.service.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config.addresses import HostPort


@click.command()
@listen.listen_option("Where to listen, for operators and agents alike.")
@click.option(
    "--agent-listen",
    metavar="HOST:PORT",
    multiple=True,
    help="Where to listen for agents alone, so that --listen can stay on the loopback: the ECS API is "
    "not served there. Can be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="Let in only agents that carry one of the tokens in this file, one a line (Amazon's agent: "
    "that sign with one as their secret key). Made with a fresh one when it is missing; read anew on "
    "SIGHUP. [default: agents need no token]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ecs/control"),
    show_default=True,
    help="Directory of the store; made when it is missing.",
)
@click.option("--region", default="", metavar="REGION", help="Region in ARNs. [default: us-east-1]")
@click.option(
    "--zone",
    default="",
    metavar="ZONE",
    help="Availability zone of hosts that do not say theirs (ECS_AVAILABILITY_ZONE). [default: the "
    "region with an a, as us-east-1a]",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    help="PEM file with the chain: speak TLS, everywhere but on a --listen on the loopback that has "
    "an --agent-listen beside it.",
)
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file with the private key.")
def control(
    *,
    listen_on: str,
    agent_listen: tuple[str, ...],
    token_file: Path | None,
    data_dir: Path,
    region: str,
    zone: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Run a control endpoint: the ECS API for operators, orders for agents.

    Nobody is asked who they are, unless you say so. For a fleet, keep --listen on the loopback, let
    agents in with --agent-listen and --token-file, and give a certificate; then run `ecs-agent join`
    on each host.
    """
    from agent.controlplane import names, server  # noqa: PLC0415 - a second that --help need not take

    manager = Notifier.take(os.environ)
    address = listen.parse(listen_on)
    of_agents = [listen.parse(text, "--agent-listen") for text in agent_listen]
    _check_once(address, of_agents)
    _check("--region", region, values.parse_region)
    _check("--zone", zone, values.parse_name)
    logs.configure(load(without_those_of_agents(os.environ), ()))
    settings = server.ControlSettings(
        data_dir=data_dir.absolute(),
        listen=address.text(),
        agent_listen=tuple(one.text() for one in of_agents),
        token_file=token_file.absolute() if token_file is not None else None,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        region=region or names.DEFAULT_REGION,
        zone=zone,
    )

    async def run() -> None:
        stop, reload = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def leave() -> None:
            manager.stopping()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave)
        loop.add_signal_handler(signal.SIGHUP, reload.set)

        def ready(host: str, port: int) -> None:
            manager.status(f"listening on {host} port {port}")
            manager.ready()

        await server.serve(settings, ready=ready, stop=stop, reload=reload)

    try:
        asyncio.run(run())
    except server.ListenFailure as failure:
        wanted = listen.parse(failure.address, failure.option)
        raise CliError(listen.cannot_listen(wanted, failure.cause, failure.option)) from None
    except FileExistsError:
        raise CliError(f"--data-dir {data_dir}: is no directory; choose another") from None
    except OSError as error:
        raise CliError(
            f"--data-dir {data_dir}: {error.strerror}; choose another directory"
        ) from None


def _check_once(address: HostPort, of_agents: Sequence[HostPort]) -> None:
    """Refuse an address that is given twice; port 0 is another one each time."""
    seen = {address: "--listen"}
    for one in of_agents:
        if one.port and one in seen:
            raise CliError(
                f"--agent-listen {one.text()}: is given to {seen[one]} already; choose another port",
                exit_code=ExitCode.USAGE,
            )
        seen[one] = "--agent-listen"


def _check(option: str, text: str, parse: Callable[[str], object]) -> None:
    """Refuse a value that its setting would refuse; an empty one was not given."""
    try:
        if text:
            parse(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}", exit_code=ExitCode.USAGE) from None


def without_those_of_agents(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what may matter here: how to log, and names that nobody knows.

    A shell that was set up for an agent can start a control endpoint for it.
    """
    of_agents = {
        variable.name
        for field_name, variable in variables().items()
        if not field_name.startswith("log_")
    }
    return {name: value for name, value in environ.items() if name not in of_agents}
