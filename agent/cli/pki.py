"""``ecs-agent control pki``: control's authority and certificates, and the identities of hosts.

The commands are calls of our own (``front.pki_calls``) over the Unix socket of control's owner.

Tests: ``tests/unit/cli/test_pki.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from agent.cli import env, output, own_control_options, render
from agent.cli.client import CliError
from agent.cli.columns import Column
from agent.cli.control_calls import ControlApi
from agent.errors import ExitCode
from agent.model import tokens

_PATH: Final = "/control/pki"
_MOST_BYTES: Final = 64 * 1024
_HOSTS: Final = (
    Column("HOST"),
    Column("IDENTITY"),
    Column("INSTANCE"),
    Column("EXPIRES"),
    Column("STATE"),
)


@click.group()
def pki() -> None:
    """Show and change the certificates of the control endpoint of this host, and those of its hosts.

    Control signs its own certificate (--tls) and those of hosts that join over https:// with an authority of
    its own, which it makes at its first start.
    """


@pki.command()
@own_control_options.data_dir
@own_control_options.as_json
def show(data_dir: Path | None, as_json: bool) -> None:
    """Show control's authority and its certificate, and how hosts come to trust it."""
    _shown(ControlApi.find(data_dir).post(_PATH, {}), as_json=as_json)


@pki.command("list")
@own_control_options.data_dir
@own_control_options.as_json
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """List the identities of hosts, with their expiry; those that have ended stay for 30 days."""
    found = ControlApi.find(data_dir).post(_PATH, {})
    hosts = sorted(found["hosts"], key=lambda one: (one["hostname"], one["issuedAt"]))
    if as_json:
        output.json(hosts)
        return
    render.table(_HOSTS, [_row(one, found["now"]) for one in hosts])


@pki.command()
@click.argument("host")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is listed with the identity.")
@own_control_options.data_dir
@own_control_options.as_json
def revoke(host: str, reason: str, data_dir: Path | None, as_json: bool) -> None:
    """Revoke the identity of HOST: the id of an identity, or the id or ARN of a container instance.

    From this moment the host gets nothing from control any more; polls that are held end. Its container instance
    is deregistered: for control its tasks have stopped, and services start others elsewhere. Containers on the
    host itself go on until somebody stops them, because control can no longer give it orders. Whoever has a
    token can join again: change the token, too, if it may be in wrong hands.
    """
    done = ControlApi.find(data_dir).post(f"{_PATH}/revoke", {"host": host, "reason": reason})
    if as_json:
        output.json(done)
        return
    arn = done["instanceArn"]
    output.line(f"revoked {done['id']}" + (f", and deregistered {arn}" if arn else ""))


@pki.command()
@click.option(
    "--authority",
    is_flag=True,
    help="Make a new authority in place of the present one. Hosts go on without being touched: the old one vouches "
    "for the new one, and their certificates are renewed when they are due.",
)
@own_control_options.data_dir
@own_control_options.as_json
def renew(authority: bool, data_dir: Path | None, as_json: bool) -> None:
    """Sign a new certificate for control now; it does so by itself at two thirds of its life."""
    control = ControlApi.find(data_dir)
    _shown(control.post(f"{_PATH}/renew", {"authority": authority}), as_json=as_json)


@pki.command()
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="PEM file with the certificate of an authority (CA:TRUE).",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="PEM file with its private key, without a passphrase. Control keeps a copy.",
)
@own_control_options.data_dir
@own_control_options.as_json
def use(certificate: Path, key: Path, data_dir: Path | None, as_json: bool) -> None:
    """Sign with an authority of your own from now on, instead of the one that control made.

    Hosts go on without being touched: the old authority vouches for the new one.
    """
    asked = {"certificate": _text("--certificate", certificate), "key": _text("--key", key)}
    _shown(ControlApi.find(data_dir).post(f"{_PATH}/use", asked), as_json=as_json)


@pki.command("join-token")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Control's file of tokens. [default: agent.tokens or agent.token in its data directory]",
)
@click.option(
    "--host",
    "name",
    default="",
    metavar="NAME",
    help="Use the token of this host, by its name in the file.",
)
@own_control_options.data_dir
def join_token(token_file: Path | None, name: str, data_dir: Path | None) -> None:
    """Print a token with which hosts join and trust control, without a file to copy.

    It is a token of control's file, with the fingerprint of control's authority before it. It is as secret as the token.
    """
    control = ControlApi.find(data_dir)
    fingerprint = control.post(_PATH, {})["fingerprint"]
    _, place = env.find([data_dir] if data_dir is not None else list(env.DATA_DIRS))
    known = [place / env.TOKENS, place / "agent.token"]
    file = token_file or next((one for one in known if one.exists()), known[0])
    try:
        found = tokens.parse_named(_text("--token-file", file))
    except ValueError as error:
        raise CliError(f"{file}: {error}") from None
    for token, of in found.items():
        if of == name:
            output.for_shell(tokens.joined(token, fingerprint))
            return
    whose = f"of the host {name}" if name else "for all hosts; give --host NAME"
    raise CliError(f"{file}: has no token {whose}")


def _shown(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.json(view)
        return
    hosts = [
        one for one in view["hosts"] if not one["revokedAt"] and one["expiresAt"] > view["now"]
    ]
    output.line(f"authority    {view['name']}")
    output.line(f"fingerprint  {view['fingerprint']}")
    output.line(f"expires      {_when(view['expiresAt'], view['now'])}")
    own = view["serverExpiresAt"]
    output.line(
        f"control      {_when(own, view['now'])}"
        if own
        else "control      has the certificate of --tls-certificate"
    )
    output.line(
        f"hosts        {len(hosts)} with a certificate; 'ecs-agent control pki list' shows them"
    )
    off_s = time.time() - view["now"]
    if abs(off_s) > 300:
        output.line(
            f"warning: control's clock is {render.span(abs(off_s))} off this shell's", err=True
        )


def _row(one: dict[str, Any], now: float) -> list[str]:
    if one["revokedAt"]:
        state = f"revoked: {one['revokedBecause']}"
    else:
        state = "expired" if one["expiresAt"] < now else "valid"
    instance = one["instanceArn"].rpartition("/")[2] or "-"
    return [one["hostname"] or "-", one["id"], instance, _when(one["expiresAt"], now), state]


def _when(at: float, now: float) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
    return f"{day} UTC ({render.span(at - now)} left)" if at > now else f"{day} UTC (over)"


def _text(option: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise CliError(f"{option} {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise CliError(f"{option} {path}: is not a PEM file", exit_code=ExitCode.USAGE) from None
    if len(data) > _MOST_BYTES:
        raise CliError(f"{option} {path}: is larger than 64 KiB", exit_code=ExitCode.USAGE)
    return text
