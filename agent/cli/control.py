"""``ecs-agent control``: the control endpoint as a process of its own, and commands for its store.

Sets up logging, ends in order on SIGTERM and SIGINT, reloads keys and tokens on SIGHUP, and explains
why it cannot listen. Everything else is in ``agent.controlplane.server``.

Tests: ``tests/unit/cli/test_command_line.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent import logs
from agent.cli import (
    audit_options,
    console_options,
    etcd_options,
    event_options,
    fleet_options,
    forward_options,
    host_hook_options,
    listen,
    log_options,
    role_options,
)
from agent.cli.client import CliError
from agent.cli.env import TOKENS
from agent.config import load, values
from agent.config.settings import variables
from agent.errors import ExitCode
from agent.supervision.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config.addresses import HostPort
    from agent.controlplane.server.settings import ControlSettings


class _StoreCommands(click.Group):
    """Looks up the commands for the store and for certificates; loads them only when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["status", "backup", "restore", "check", "export", "import", "pki"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from agent.cli import control_status, control_store, pki  # noqa: PLC0415 - not needed to run control

        if cmd_name == "pki":
            return pki.pki
        if cmd_name == "status":
            return control_status.status
        return control_store.COMMANDS.get(cmd_name)


@click.group(cls=_StoreCommands, invoke_without_command=True)
@listen.listen_option("Address to listen on, for operators and agents.")
@click.option(
    "--agent-listen",
    metavar="HOST:PORT",
    multiple=True,
    help="Address to listen on for agents only; the ECS API is not served there. --listen can then stay "
    "on the loopback. Can be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File of tokens, one per line: only agents with one of them are admitted (Amazon's agent uses "
    "it as its secret key). Created with a new token if missing; reloaded on SIGHUP. "
    "[default: agent.tokens in --data-dir]",
)
@click.option(
    "--metrics-token-file",
    type=click.Path(path_type=Path),
    help="File of tokens, one per line, of programs such as Prometheus: with one of them they can read "
    "/metrics and the targets to scrape, and nothing else. Created with a new token if missing; reloaded "
    "on SIGHUP. [default: metrics.tokens in --data-dir]",
)
@click.option(
    "--keys-file",
    type=click.Path(path_type=Path),
    help="File of keys, in the format of the AWS credentials file: only operators that sign with one of "
    "them are admitted. Created with a new key if missing; reloaded on SIGHUP. "
    "[default: credentials in --data-dir]",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    help="Unix socket on which root and the user that control runs as need no key. [default: "
    "control.sock in --data-dir]",
)
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    help="Require no keys and no tokens. Anyone who can reach the port, such as any user of this "
    "machine, then controls every host of the fleet as root. For labs only.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ecs/control"),
    show_default=True,
    help="Directory of the store; created if missing.",
)
@etcd_options.store_option
@click.option(
    "--backup-every",
    default="6h",
    show_default=True,
    metavar="TIME",
    help="How often the store is backed up if it has changed; 0 for never.",
)
@click.option(
    "--backup-dir",
    type=click.Path(path_type=Path),
    help="Directory of the backups. [default: backups in --data-dir]",
)
@click.option(
    "--backup-keep",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="How many of the newest backups to keep.",
)
@click.option("--region", default="", metavar="REGION", help="Region in ARNs. [default: us-east-1]")
@click.option(
    "--secret-keys",
    type=click.Path(path_type=Path),
    help="File with the keys that encrypt the secrets that control keeps; created with the first secret. "
    "[default: secrets.keys in --data-dir]",
)
@click.option(
    "--zone",
    default="",
    metavar="ZONE",
    help="Availability zone of hosts that do not set one (ECS_AVAILABILITY_ZONE). [default: the region "
    "and the letter a, such as us-east-1a]",
)
@click.option(
    "--awslogs",
    type=click.Choice(("here", "cloudwatch")),
    default="here",
    show_default=True,
    help="Where containers with the log driver awslogs write: to this endpoint, through their agent, or "
    "to Amazon CloudWatch Logs. An awslogs-endpoint of a container wins.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    help="PEM file with the certificate chain. Turns on TLS for all addresses; if --agent-listen is "
    "given, a --listen on the loopback stays plain HTTP.",
)
@click.option(
    "--tls",
    "tls_own",
    is_flag=True,
    help="Turn on TLS as --tls-certificate does, with a certificate that control signs with its own authority "
    "and renews by itself. 'ecs-agent control pki show' prints how hosts join.",
)
@click.option(
    "--tls-name",
    "tls_names",
    multiple=True,
    metavar="NAME",
    help="Name or address for that certificate, besides those of this machine: for operators' tools, as hosts "
    "need none. Can be given several times.",
)
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file with the private key.")
@console_options.console_option(console_options.OFF)
@role_options.role_options
@log_options.log_options
@event_options.event_options
@host_hook_options.host_hook_options
@audit_options.audit_options
@forward_options.forward_options
@fleet_options.fleet_options
@click.pass_context
def control(ctx: click.Context, /, **given: Any) -> None:
    """Run a control endpoint: it serves the ECS API to operators and sends tasks to agents.

    Operators sign their calls with a key that is created at the first start; `eval $(ecs-agent env)`
    gives it to the AWS tools. For a fleet, add --agent-listen and a TLS certificate, then run
    `ecs-agent join` on each host.
    """
    if ctx.invoked_subcommand is not None:
        return
    from agent.controlplane.front import sites  # noqa: PLC0415 - takes a second, not needed for --help

    manager = Notifier.take(os.environ)
    settings = _settings(given)
    logs.configure(load(without_those_of_agents(os.environ), ()))

    try:
        asyncio.run(_serve(settings, manager))
    except sites.ListenFailure as failure:
        if failure.option == "--socket":
            raise CliError(str(failure)) from None
        wanted = listen.parse(failure.address, failure.option)
        raise CliError(listen.cannot_listen(wanted, failure.cause, failure.option)) from None
    except FileExistsError:
        text = f"--data-dir {settings.data_dir}: is not a directory; choose another path"
        raise CliError(text) from None
    except OSError as error:
        raise CliError(
            f"--data-dir {settings.data_dir}: {error.strerror}; choose another directory"
        ) from None


async def _serve(settings: ControlSettings, manager: Notifier) -> None:
    """Serve until a signal, and tell the service manager how it goes."""
    from agent.controlplane.server import serving  # noqa: PLC0415 - as above

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

    def standing_by(leader: str) -> None:
        # The service has started: it waits for its turn, for as long as that takes.
        manager.status(f"standing by: {leader} leads")
        manager.ready()

    await serving.serve(settings, ready=ready, stop=stop, reload=reload, standing_by=standing_by)


def _settings(given: dict[str, Any]) -> ControlSettings:
    """Return the settings from the options; raises ``CliError`` that names the bad option."""
    from agent.controlplane import names  # noqa: PLC0415 - as above
    from agent.controlplane.backups import Schedule  # noqa: PLC0415 - as above
    from agent.controlplane.server.settings import ControlSettings  # noqa: PLC0415 - as above

    is_open, data_dir = given["is_open"], given["data_dir"].absolute()
    for option in ("keys_file", "token_file", "metrics_token_file"):
        if is_open and given[option] is not None:
            raise CliError(
                f"--open and --{option.replace('_', '-')} contradict each other; give only one of them",
                exit_code=ExitCode.USAGE,
            )
    address = listen.parse(given["listen_on"])
    of_agents = [listen.parse(text, "--agent-listen") for text in given["agent_listen"]]
    _check_once(address, of_agents)
    _check("--region", given["region"], values.parse_region)
    _check("--zone", given["zone"], values.parse_name)
    return ControlSettings(
        data_dir=data_dir,
        etcd=etcd_options.settings(given["store"]),
        listen=address.text(),
        agent_listen=tuple(one.text() for one in of_agents),
        token_file=_unless(is_open, given["token_file"], data_dir / TOKENS),
        keys_file=_unless(is_open, given["keys_file"], data_dir / "credentials"),
        metrics_token_file=_unless(
            is_open, given["metrics_token_file"], data_dir / "metrics.tokens"
        ),
        socket=_socket(given["socket"], data_dir),
        backups=Schedule(
            directory=(given["backup_dir"] or data_dir / "backups").absolute(),
            every_s=_seconds("--backup-every", given["backup_every"]),
            keep=given["backup_keep"],
        ),
        tls_certificate=given["tls_certificate"],
        tls_key=given["tls_key"],
        tls_own=given["tls_own"],
        tls_names=given["tls_names"],
        region=given["region"] or names.DEFAULT_REGION,
        zone=given["zone"],
        secret_keys=given["secret_keys"].absolute() if given["secret_keys"] else None,
        roles=role_options.settings(given, os.environ),
        keeps_logs=given["awslogs"] == "here",
        logs=log_options.settings(given),
        event_webhook_file=event_options.webhook_file(given),
        host_hooks=host_hook_options.file(given),
        audit=audit_options.settings(given, data_dir),
        forward=forward_options.targets(given),
        console=console_options.console(given),
        fleet=fleet_options.plan(given),
    )


def _socket(given: Path | None, data_dir: Path) -> Path | None:
    """Return the path of the Unix socket; None if the default path is too long for the kernel."""
    path = (given or data_dir / "control.sock").absolute()
    if len(os.fsencode(path)) <= listen.SOCKET_PATH_LIMIT:
        return path
    if given is None:
        return None
    raise CliError(
        f"--socket {given}: is longer than {listen.SOCKET_PATH_LIMIT} bytes; use a shorter path",
        exit_code=ExitCode.USAGE,
    )


def _unless(is_open: bool, given: Path | None, default: Path) -> Path | None:
    return None if is_open else (given or default).absolute()


def _seconds(option: str, text: str) -> float:
    """Parse a duration in seconds; a number needs a unit, except 0."""
    try:
        seconds = values.parse_duration_s(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}", exit_code=ExitCode.USAGE) from None
    if seconds and seconds < 60:
        raise CliError(
            f"{option} {text}: is less than one minute; use a longer time such as 6h, or 0 for never",
            exit_code=ExitCode.USAGE,
        )
    return seconds


def _check_once(address: HostPort, of_agents: Sequence[HostPort]) -> None:
    """Refuse an address that is given twice; port 0 is a different port each time."""
    seen = {address: "--listen"}
    for one in of_agents:
        if one.port and one in seen:
            raise CliError(
                f"--agent-listen {one.text()}: is already used by {seen[one]}; choose another port",
                exit_code=ExitCode.USAGE,
            )
        seen[one] = "--agent-listen"


def _check(option: str, text: str, parse: Callable[[str], object]) -> None:
    """Refuse a value that the parser refuses; an empty value means that none was given."""
    try:
        if text:
            parse(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}", exit_code=ExitCode.USAGE) from None


def without_those_of_agents(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the agent's settings: log settings and unknown names stay.

    This way a control endpoint can be started from a shell that has the settings of an agent. Those of control's
    store are looked at elsewhere.
    """
    from agent.controlplane.store import etcd_settings  # noqa: PLC0415 - not for --help

    others = {
        variable.name
        for field_name, variable in variables().items()
        if not field_name.startswith("log_")
    } | {etcd_options.VARIABLE, *etcd_settings.VARIABLES}
    return {name: value for name, value in environ.items() if name not in others}
