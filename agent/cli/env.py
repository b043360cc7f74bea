"""``ecs-agent env``: prints the variables with which the AWS tools use the control endpoint.

Reads only files in control's data directory.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import output
from agent.cli.client import CliError

if TYPE_CHECKING:
    from agent.controlplane.front.address import Address

DATA_DIRS = (Path("/var/lib/ecs/control"), Path("/var/lib/ecs-agent-control"))
"""Data directories of ``standalone`` and of the service."""
TOKENS = "agent.tokens"
"""Control's token file, in its data directory."""
_CLOUD_MAP = "AWS_ENDPOINT_URL_SERVICEDISCOVERY"


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of control. [default: the one of standalone or of the service]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of shell commands.")
def env(data_dir: Path | None, as_json: bool) -> None:
    """Print the environment for the AWS tools; use it as `eval $(ecs-agent env)`.

    aws, boto3, Terraform and other tools then use the control endpoint of this host. The output
    contains a secret key: anyone who has it can control every host of the fleet.
    """
    address, found = find([data_dir] if data_dir is not None else list(DATA_DIRS))
    values = _values(address, found)
    if as_json:
        output.json(values)
        return
    for name, value in values.items():
        output.for_shell(f"export {name}={shlex.quote(value)};")
    # Leftovers of another account would be sent with each request.
    output.for_shell("unset AWS_SESSION_TOKEN AWS_PROFILE;")


def find(directories: list[Path]) -> tuple[Address, Path]:
    """Return the newest address, and the directory where it was found."""
    from agent.controlplane.front import address  # noqa: PLC0415 - not for --help

    candidates = [place for given in directories for place in (given, given / "control")]
    found = [
        (place / address.FILE, place)
        for place in candidates
        if _is_file(place / address.FILE, directories)
    ]
    for _, place in sorted(found, key=lambda pair: pair[0].stat().st_mtime, reverse=True):
        read = address.read(place)
        if read is not None:
            return read, place
    looked = " or ".join(str(directory) for directory in directories)
    raise CliError(
        f"no control endpoint has run with the data directory {looked}; start 'ecs-agent standalone' or "
        "'ecs-agent control', or give its directory with --data-dir"
    )


def _is_file(path: Path, directories: list[Path]) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise CliError(
            f"{path}: only root and control's user may read it; use sudo: 'eval $(sudo ecs-agent "
            f"env{_option(directories)})'"
        ) from None


def _option(directories: list[Path]) -> str:
    return f" --data-dir {directories[0]}" if len(directories) == 1 else ""


def _values(address: Address, place: Path) -> dict[str, str]:
    from agent.controlplane.front import keys  # noqa: PLC0415 - not for --help

    values = {
        "AWS_ENDPOINT_URL_ECS": address.url,
        **dict.fromkeys(address.endpoint_variables, address.url),
        "AWS_DEFAULT_REGION": address.region,
        "AWS_REGION": address.region,
    }
    if _CLOUD_MAP in values:
        # Otherwise the tools put "data-" before control's host for DiscoverInstances.
        values["AWS_DISABLE_HOST_PREFIX_INJECTION"] = "true"
    if address.certificate:
        values["AWS_CA_BUNDLE"] = address.certificate
    if not address.keys_file:
        # Control does not check them, but the tools need some key to send a request.
        return values | {"AWS_ACCESS_KEY_ID": keys.OPEN, "AWS_SECRET_ACCESS_KEY": keys.OPEN}
    file = Path(address.keys_file)
    if not file.exists():
        raise CliError(
            f"{file}: control's key file is missing; restart control to create a new one"
        )
    # Control may run as its own user while root runs this command: expect the directory's owner.
    known = keys.load(file, owner=Path(place).stat().st_uid)
    key = next((k for k in known.values() if k.name == keys.DEFAULT_NAME), None)
    key = key or next(iter(known.values()))
    return values | {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret}
