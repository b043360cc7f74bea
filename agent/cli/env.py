"""``ecs-agent env``: what the AWS tools need to command the control endpoint of this host.

Reads what control keeps in its data directory, and nothing else.
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
"""Of ``standalone`` and of the service."""


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Control's data directory. [default: that of standalone or of the service]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of shell commands.")
def env(data_dir: Path | None, as_json: bool) -> None:
    """Print what the AWS tools need, for `eval $(ecs-agent env)`.

    aws, boto3, Terraform and the like then command the control endpoint of this host. The output
    holds the secret key of control: whoever has it commands every host of the fleet.
    """
    address, found = _find([data_dir] if data_dir is not None else list(DATA_DIRS))
    values = _values(address, found)
    if as_json:
        output.json(values)
        return
    for name, value in values.items():
        output.for_shell(f"export {name}={shlex.quote(value)};")
    # What is left of another account would be sent along.
    output.for_shell("unset AWS_SESSION_TOKEN AWS_PROFILE;")


def _find(directories: list[Path]) -> tuple[Address, Path]:
    """Return the newest address, and where it was found."""
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
    looked = " and ".join(str(directory) for directory in directories)
    raise CliError(
        f"no control endpoint has run in {looked}; start 'ecs-agent standalone' or 'ecs-agent "
        "control', or name its --data-dir"
    )


def _is_file(path: Path, directories: list[Path]) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise CliError(
            f"{path}: only the owner of control may read it; use sudo, as in 'eval $(sudo ecs-agent "
            f"env{_option(directories)})'"
        ) from None


def _option(directories: list[Path]) -> str:
    return f" --data-dir {directories[0]}" if len(directories) == 1 else ""


def _values(address: Address, place: Path) -> dict[str, str]:
    from agent.controlplane.front import keys  # noqa: PLC0415 - not for --help

    values = {
        "AWS_ENDPOINT_URL_ECS": address.url,
        "AWS_DEFAULT_REGION": address.region,
        "AWS_REGION": address.region,
    }
    if address.certificate:
        values["AWS_CA_BUNDLE"] = address.certificate
    if not address.keys_file:
        # Nobody looks at them, but the tools send nothing without any.
        return values | {"AWS_ACCESS_KEY_ID": "open", "AWS_SECRET_ACCESS_KEY": "open"}
    file = Path(address.keys_file)
    if not file.exists():
        raise CliError(f"{file}: the keys of control in {place} are gone; start control anew")
    # Control may run as a user of its own, and root asks for its keys: whose directory it is, it is.
    known = keys.load(file, owner=Path(place).stat().st_uid)
    key = next((k for k in known.values() if k.name == keys.DEFAULT_NAME), None)
    key = key or next(iter(known.values()))
    return values | {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret}
