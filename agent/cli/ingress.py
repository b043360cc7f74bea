"""``ecs-agent ingress``: runs HAProxy as control's load balancers say, and ends it in order.

Tests: ``tests/unit/cli/test_ingress.py``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent import logs
from agent.cli import env
from agent.cli.client import CliError
from agent.config import DEFAULT_FILES, load
from agent.errors import ExitCode
from agent.supervision.notify import Notifier

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.ingress.service import IngressSettings

_SEARCHED = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


@click.command()
@click.option(
    "--control",
    "url",
    default="",
    metavar="URL",
    help="Where control is. [default: ECS_CONTROL_ENDPOINT, which join has set, else the control endpoint "
    "of this host]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with a token of agents. [default: ECS_CONTROL_TOKEN_FILE, or that of the control endpoint of "
    "this host]",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="PEM file of a CA to trust besides the system's. [default: ECS_CONTROL_CA_FILE]",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Settings file of the agent to read instead of /var/lib/ecs/ecs.config and /etc/ecs/ecs.config.",
)
@click.option(
    "--load-balancer",
    "balancers",
    multiple=True,
    metavar="NAME",
    help="Serve only this load balancer. Can be given several times. [default: all]",
)
@click.option(
    "--listen",
    "address",
    default="*",
    show_default=True,
    metavar="ADDRESS",
    help="Address of this host on which listeners listen; * for all.",
)
@click.option(
    "--haproxy",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The program HAProxy, 2.6 or newer. [default: the one that is installed]",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=Path("/run/ecs-agent-ingress"),
    show_default=True,
    help="Directory of HAProxy's configuration and sockets; one for each ingress.",
)
@click.option(
    "--stop-within",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long requests may take to finish when the ingress is stopped.",
)
def ingress(
    *,
    url: str,
    token_file: Path | None,
    ca_file: Path | None,
    config: str | None,
    balancers: tuple[str, ...],
    address: str,
    haproxy: Path | None,
    run_dir: Path,
    stop_within: int,
) -> None:
    """Carry the requests of control's load balancers on this host, with HAProxy.

    It follows listeners, rules, target groups and targets, and reports the health of targets, for which
    services then wait. HAProxy is started and configured by it; a service of HAProxy's own package is not
    used. Needs the right to use the ports of listeners.
    """
    from agent.ingress import service  # noqa: PLC0415 - takes a while, not needed for --help

    program = _haproxy(haproxy)
    settings = load(os.environ, [Path(config)] if config else DEFAULT_FILES, required=bool(config))
    where = _where(settings, url, token_file, ca_file)
    logs.configure(settings)
    _run(
        service.IngressSettings(
            endpoint=where[0],
            token_file=where[1],
            ca_file=where[2],
            haproxy=program,
            run_dir=run_dir.absolute(),
            address=address,
            balancers=balancers,
            stop_s=float(stop_within),
        )
    )


def _run(settings: IngressSettings) -> None:
    from agent.ingress import service  # noqa: PLC0415 - as above

    manager = Notifier.take(os.environ)

    async def run() -> None:
        stop = asyncio.Event()

        def leave() -> None:
            manager.stopping()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, leave)
        await service.serve(settings, stop=stop, ready=manager.ready)

    asyncio.run(run())


def _haproxy(given: Path | None) -> Path:
    """Return the program; raises ``CliError`` if there is none."""
    if given is not None:
        if not (given.is_file() and os.access(given, os.X_OK)):
            raise CliError(
                f"--haproxy {given}: is not a program; name HAProxy, such as /usr/sbin/haproxy",
                exit_code=ExitCode.TERMINAL,
            )
        return given.absolute()
    found = shutil.which("haproxy") or shutil.which("haproxy", path=_SEARCHED)
    if found is None:
        raise CliError(
            "HAProxy is not installed; install the package haproxy (its own service is not needed: "
            "systemctl disable --now haproxy), or name the program with --haproxy",
            exit_code=ExitCode.TERMINAL,
        )
    return Path(found)


def _where(
    settings: Settings, url: str, token_file: Path | None, ca_file: Path | None
) -> tuple[str, Path | None, Path | None]:
    """Return URL, token file and CA file of control; raises ``CliError`` if nothing names it."""
    if url or settings.control_endpoint:
        return (
            url or settings.control_endpoint,
            token_file or settings.control_token_file,
            ca_file or settings.control_ca_file,
        )
    try:
        address, place = env.find(list(env.DATA_DIRS))
    except CliError:
        raise CliError(
            "no control is set, and none has run on this host; give --control URL and --token-file FILE, "
            "or run 'ecs-agent join'",
            exit_code=ExitCode.TERMINAL,
        ) from None
    tokens = place / env.TOKENS
    certificate = Path(address.certificate) if address.certificate else None
    return address.url, token_file or (tokens if tokens.exists() else None), ca_file or certificate
