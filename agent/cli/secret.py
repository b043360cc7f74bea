"""``ecs-agent secret``: the secrets that the control endpoint of this host keeps.

The commands are calls of Parameter Store, as control serves it to every AWS tool. A value is read from a file,
from standard input or from a prompt; it is never an argument, where every user of the host could read it.

Tests: ``tests/unit/cli/test_secret.py``.
"""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import output, own_control_options
from agent.cli.client import CliError
from agent.cli.control_calls import ControlApi
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT_BYTES: Final = 64 * 1024
_ROTATE_PATH: Final = "/control/rotate-secret-keys"


@click.group()
def secret() -> None:
    """Store secrets in the control endpoint of this host, for tasks at sites without AWS.

    A container gets one by `secrets` in its definition, with the name or the ARN as `valueFrom`. Every AWS
    tool can do the same with `aws ssm` and `aws secretsmanager`: eval $(ecs-agent env).
    """


@secret.command()
@click.argument("name")
@click.option(
    "--value-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the value from FILE, or from standard input if it is -. [default: ask for it on a "
    "terminal, else standard input]",
)
@click.option("--description", help="What it is for; not secret.")
@own_control_options.data_dir
@own_control_options.as_json
def put(
    name: str,
    value_file: Path | None,
    description: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Store a value under NAME, as a SecureString; a name that exists gets a new version.

    One line break at the end of the value is left out.
    """
    control = ControlApi.find(data_dir)
    request: dict[str, Any] = {
        "Name": name,
        "Value": _value(value_file),
        "Type": "SecureString",
        "Overwrite": True,
    }
    if description is not None:
        request["Description"] = description
    version = control.call("ssm", "PutParameter", request)["Version"]
    arn = control.call("ssm", "GetParameter", {"Name": name})["Parameter"]["ARN"]
    if as_json:
        output.json({"name": name, "arn": arn, "version": version})
        return
    output.line(f"stored {name}, version {version}")
    output.line(f'in a container definition: "secrets": [{{"name": "...", "valueFrom": "{arn}"}}]')


@secret.command("list")
@own_control_options.data_dir
@own_control_options.as_json
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """List the names of the secrets, without their values."""
    control = ControlApi.find(data_dir)
    found = list(_every(control))
    if as_json:
        output.json(
            [
                {
                    "name": each["Name"],
                    "arn": each["ARN"],
                    "type": each["Type"],
                    "version": each["Version"],
                    "modifiedAt": each["LastModifiedDate"],
                    "description": each.get("Description", ""),
                }
                for each in found
            ]
        )
        return
    if not found:
        output.line("no secrets; store one with 'ecs-agent secret put NAME'")
        return
    width = max(len("NAME"), *(len(each["Name"]) for each in found))
    output.line(f"{'NAME':<{width}}  VERSION  CHANGED           DESCRIPTION")
    for each in found:
        changed = dt.datetime.fromtimestamp(each["LastModifiedDate"]).astimezone()
        output.line(
            f"{each['Name']:<{width}}  {each['Version']:<7}  {changed:%Y-%m-%d %H:%M}  "
            f"{each.get('Description') or '-'}"
        )


@secret.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@own_control_options.data_dir
@own_control_options.as_json
def remove(names: tuple[str, ...], data_dir: Path | None, as_json: bool) -> int:
    """Remove secrets for good. Tasks that run keep the values that they got."""
    control = ControlApi.find(data_dir)
    removed: list[str] = []
    missing: list[str] = []
    for name in names:
        answer = control.call("ssm", "DeleteParameters", {"Names": [name]})
        removed += answer["DeletedParameters"]
        missing += answer["InvalidParameters"]
    if as_json:
        output.json({"removed": removed, "missing": missing})
    else:
        for name in removed:
            output.line(f"removed {name}")
        for name in missing:
            output.line(f"{name}: there is no such secret; see 'ecs-agent secret list'", err=True)
    return ExitCode.ERROR if missing else ExitCode.SUCCESS


@secret.command("rotate-key")
@click.option(
    "--forget-old",
    is_flag=True,
    help="Remove the old keys. Older copies of the store then no longer give their secrets.",
)
@own_control_options.data_dir
@own_control_options.as_json
def rotate_key(forget_old: bool, data_dir: Path | None, as_json: bool) -> int:
    """Encrypt all secrets with a new key.

    The old keys stay in the file, for older copies of the store, unless --forget-old is given. If this is
    cut short, run it again.
    """
    done = ControlApi.find(data_dir).post(_ROTATE_PATH, {"forgetOld": forget_old})
    if as_json:
        output.json(done)
    else:
        output.line(
            f"new key {done['key']}: {done['sealed']} secrets encrypted with it; {done['file']} has "
            f"{done['keys']} keys. Keep a copy of that file"
        )
    if done["left"]:
        output.line(
            f"{done['left']} secrets cannot be decrypted and keep their old key; control's log names them",
            err=True,
        )
        return ExitCode.ERROR
    return ExitCode.SUCCESS


def _every(control: ControlApi) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {}
    while True:
        page = control.call("ssm", "DescribeParameters", request)
        yield from page["Parameters"]
        if not page.get("NextToken"):
            return
        request = {"NextToken": page["NextToken"]}


def _value(file: Path | None) -> str:
    """Return the value from a file, standard input or a prompt.

    Raises:
        CliError: it cannot be read; the text shows nothing of it.
    """
    if file is None and sys.stdin.isatty():
        return output.ask_secret("value")
    where = "standard input" if file is None or str(file) == "-" else str(file)
    try:
        if file is None or str(file) == "-":
            raw = sys.stdin.buffer.read(_LIMIT_BYTES + 1)
        else:
            with file.open("rb") as source:
                raw = source.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise CliError(f"{where}: {error.strerror}; name a file that you may read") from None
    if len(raw) > _LIMIT_BYTES:
        raise CliError(f"{where}: is longer than a secret can be; name another file")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise CliError(f"{where}: is not text; encode it, for example with base64") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise CliError(f"{where}: is empty; give the value there")
    return text
