"""``ecs-agent control``: the control endpoint as a process of its own.

Sets up logging, turns SIGTERM and SIGINT into an orderly end, and words what keeps it from
listening. Everything else is ``agent.controlplane.server``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click

from agent import logs
from agent.cli import listen
from agent.cli.client import CliError
from agent.config import load


@click.command()
@click.option(
    "--listen",
    "listen_on",
    metavar="HOST:PORT",
    default="127.0.0.1:6820",
    show_default=True,
    help="Where to listen, for operators and agents alike.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ecs/control"),
    show_default=True,
    help="Directory of the store; made when it is missing.",
)
@click.option("--region", default="", metavar="REGION", help="Region in ARNs. [default: us-east-1]")
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="PEM file with the chain.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file with the private key.")
def control(
    listen_on: str,
    data_dir: Path,
    region: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Run a control endpoint: the ECS API for operators, orders for agents."""
    from agent.controlplane import names, server  # noqa: PLC0415 - a second that --help need not take

    address = listen.parse(listen_on)
    logs.configure(load(os.environ, ()))
    settings = server.ControlSettings(
        data_dir=data_dir.absolute(),
        listen=address.text(),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        region=region or names.DEFAULT_REGION,
    )

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await server.serve(settings, ready=lambda _host, _port: None, stop=stop)

    try:
        asyncio.run(run())
    except OSError as error:
        if isinstance(error.filename, str | bytes | os.PathLike):
            text = f"--data-dir {data_dir}: {error.strerror}; choose another directory"
            raise CliError(text) from None
        raise CliError(listen.cannot_listen(address, error)) from None
