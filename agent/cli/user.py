"""``ecs-agent user``: users of the control endpoint of this host, with access keys and policies.

The commands are calls of IAM, as control serves it to every AWS tool, over the Unix socket of its owner. A secret
key is shown once, when it is made.

Tests: ``tests/unit/cli/test_user.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

import click
import msgspec

from agent.cli import output, own_control_options
from agent.cli.client import CliError
from agent.cli.control_calls import ControlApi
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT_BYTES: Final = 64 * 1024
_AWS_POLICY: Final = "arn:aws:iam::aws:policy/"

_policies = click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="FILE|NAME",
    help="A file with a policy document, or the name of a managed policy of AWS, such as ReadOnlyAccess or "
    "AmazonECS_FullAccess. May be given several times.",
)


class _Policy(NamedTuple):
    """A policy as it is given: a document with a name, or the ARN of a managed one."""

    name: str
    document: str
    arn: str


@click.group()
def user() -> None:
    """Give people and programs access keys of their own, and say by policies what they may do.

    A user may do nothing that no policy allows. The keys in control's file of keys, which `ecs-agent env`
    prints, may do everything. Every AWS tool can do the same with `aws iam`.
    """


@user.command()
@click.argument("name")
@_policies
@own_control_options.data_dir
@own_control_options.as_json
def add(name: str, policies: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Make the user NAME with an access key, and print the key.

    The secret is printed this once: control keeps it encrypted and shows it to nobody.
    """
    given = [_policy(each) for each in policies]
    control = ControlApi.find(data_dir)
    control.query("iam", "CreateUser", UserName=name)
    try:
        _add_policies(control, name, given)
        key = _new_key(control, name)
    except CliError:
        _remove(control, name)
        raise
    _print_key(name, key, as_json=as_json)
    if not policies and not as_json:
        output.line(
            f"{name} may do nothing yet; give it a policy with 'ecs-agent user policy {name} --policy ...'",
            err=True,
        )


@user.command("list")
@own_control_options.data_dir
@own_control_options.as_json
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """List the users, their keys and the names of their policies."""
    control = ControlApi.find(data_dir)
    found = [_shown(control, name) for name in _names(control, "ListUsers", "UserName")]
    if as_json:
        output.json(
            [{key: value for key, value in each.items() if key != "documents"} for each in found]
        )
        return
    if not found:
        output.line("no users; make one with 'ecs-agent user add NAME'")
        return
    width = max(len("NAME"), *(len(each["name"]) for each in found))
    output.line(f"{'NAME':<{width}}  KEYS  POLICIES")
    for each in found:
        active = sum(key["status"] == "Active" for key in each["keys"])
        output.line(f"{each['name']:<{width}}  {active:<4}  {', '.join(each['policies']) or '-'}")


@user.command()
@click.argument("name")
@own_control_options.data_dir
@own_control_options.as_json
def show(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Show a user: its keys without their secrets, and its policies."""
    found = _shown(ControlApi.find(data_dir), name)
    if as_json:
        output.json(found)
        return
    output.line(f"{found['name']}  {found['arn']}")
    for key in found["keys"]:
        output.line(f"key {key['id']}  {key['status']}  created {key['createdAt']}")
    for policy in found["policies"]:
        output.line(f"policy {policy}")
        if policy in found["documents"]:
            output.lines(
                msgspec.json.format(
                    msgspec.json.encode(found["documents"][policy]), indent=2
                ).decode()
            )


@user.command("policy")
@click.argument("name")
@_policies
@own_control_options.data_dir
def policy_command(name: str, policies: tuple[str, ...], data_dir: Path | None) -> None:
    """Replace all policies of the user NAME; without --policy, it may then do nothing."""
    given = [_policy(each) for each in policies]
    control = ControlApi.find(data_dir)
    control.query("iam", "GetUser", UserName=name)
    # New ones first: those that both sets have are allowed without a pause.
    _add_policies(control, name, given)
    kept = {each.name or each.arn for each in given}
    _remove_policies(control, name, kept)
    output.line(f"{name}: {', '.join(each.name or each.arn for each in given) or 'no policies'}")


@user.group()
def key() -> None:
    """Change the access keys of a user."""


@key.command()
@click.argument("name")
@click.option(
    "--keep-old",
    is_flag=True,
    help="Let the newest old key work until it is revoked, so that programs can change to the new one.",
)
@own_control_options.data_dir
@own_control_options.as_json
def rotate(name: str, keep_old: bool, data_dir: Path | None, as_json: bool) -> None:
    """Give the user NAME a new key and revoke its old ones at once."""
    control = ControlApi.find(data_dir)
    old = _keys(control, name)
    # A user has two keys at most.
    for each in old[:-1]:
        _revoke(control, name, each["id"])
    made = _new_key(control, name)
    if not keep_old:
        for each in old[-1:]:
            _revoke(control, name, each["id"])
    _print_key(name, made, as_json=as_json)


@key.command()
@click.argument("name")
@click.argument("key_ids", nargs=-1, metavar="[KEY_ID...]")
@click.option("--all", "every", is_flag=True, help="Revoke all keys of the user.")
@own_control_options.data_dir
def revoke(name: str, key_ids: tuple[str, ...], every: bool, data_dir: Path | None) -> None:
    """Revoke keys of the user NAME for good; the next call with one of them is refused."""
    if bool(key_ids) == every:
        raise CliError("name the keys to revoke, or give --all", exit_code=ExitCode.USAGE)
    control = ControlApi.find(data_dir)
    for key_id in key_ids or [each["id"] for each in _keys(control, name)]:
        _revoke(control, name, key_id)
        output.line(f"revoked {key_id}")


@user.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@own_control_options.data_dir
def remove(names: tuple[str, ...], data_dir: Path | None) -> None:
    """Remove users with their keys and policies; their next call is refused."""
    control = ControlApi.find(data_dir)
    for name in names:
        _remove(control, name)
        output.line(f"removed {name}")


def _policy(given: str) -> _Policy:
    """Return a policy from a file, or a managed one by its name or ARN; a file wins.

    Raises:
        CliError: there is no such file, and it cannot be the name of a managed policy.
    """
    if given.startswith("arn:"):
        return _Policy("", "", given)
    path = Path(given)
    try:
        if not path.is_file():
            if "." in given or path.is_absolute():
                raise CliError(f"{given}: there is no such file; name a policy document")
            return _Policy("", "", f"{_AWS_POLICY}{given}")
        with path.open("rb") as source:
            raw = source.read(_LIMIT_BYTES + 1)
        if len(raw) > _LIMIT_BYTES:
            raise CliError(f"{given}: is larger than a policy can be; name another file")
        return _Policy(path.stem, raw.decode(), "")
    except OSError as error:
        raise CliError(f"{given}: {error.strerror}; name a file that you may read") from None
    except UnicodeDecodeError:
        raise CliError(f"{given}: is not text; name a policy document") from None


def _add_policies(control: ControlApi, name: str, given: list[_Policy]) -> None:
    for each in given:
        if each.arn:
            control.query("iam", "AttachUserPolicy", UserName=name, PolicyArn=each.arn)
        else:
            control.query(
                "iam",
                "PutUserPolicy",
                UserName=name,
                PolicyName=each.name,
                PolicyDocument=each.document,
            )


def _remove_policies(control: ControlApi, name: str, kept: set[str]) -> None:
    for policy in _names(control, "ListUserPolicies", "member", UserName=name):
        if policy not in kept:
            control.query("iam", "DeleteUserPolicy", UserName=name, PolicyName=policy)
    for arn in _names(control, "ListAttachedUserPolicies", "PolicyArn", UserName=name):
        if arn not in kept:
            control.query("iam", "DetachUserPolicy", UserName=name, PolicyArn=arn)


def _remove(control: ControlApi, name: str) -> None:
    for each in _keys(control, name):
        _revoke(control, name, each["id"])
    _remove_policies(control, name, set())
    control.query("iam", "DeleteUser", UserName=name)


def _revoke(control: ControlApi, name: str, key_id: str) -> None:
    control.query("iam", "DeleteAccessKey", UserName=name, AccessKeyId=key_id)


def _new_key(control: ControlApi, name: str) -> dict[str, str]:
    made = control.query("iam", "CreateAccessKey", UserName=name)
    return {
        "id": made.findtext("AccessKey/AccessKeyId", ""),
        "secret": made.findtext("AccessKey/SecretAccessKey", ""),
    }


def _print_key(name: str, made: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        output.json({"name": name, "keyId": made["id"], "secret": made["secret"]})
        return
    output.line(f"[{name}]")
    output.line(f"aws_access_key_id = {made['id']}")
    output.line(f"aws_secret_access_key = {made['secret']}")


def _keys(control: ControlApi, name: str) -> list[dict[str, str]]:
    """Return the keys of a user, oldest first."""
    listed = control.query("iam", "ListAccessKeys", UserName=name)
    found = [
        {
            "id": each.findtext("AccessKeyId", ""),
            "status": each.findtext("Status", ""),
            "createdAt": each.findtext("CreateDate", ""),
        }
        for each in listed.iterfind("AccessKeyMetadata/member")
    ]
    return sorted(found, key=lambda each: each["createdAt"])


def _shown(control: ControlApi, name: str) -> dict[str, Any]:
    about = control.query("iam", "GetUser", UserName=name)
    documents = {}
    for policy in _names(control, "ListUserPolicies", "member", UserName=name):
        found = control.query("iam", "GetUserPolicy", UserName=name, PolicyName=policy)
        documents[policy] = msgspec.json.decode(unquote(found.findtext("PolicyDocument", "null")))
    managed = _names(control, "ListAttachedUserPolicies", "PolicyName", UserName=name)
    return {
        "name": name,
        "arn": about.findtext("User/Arn", ""),
        "createdAt": about.findtext("User/CreateDate", ""),
        "keys": _keys(control, name),
        "policies": [*documents, *managed],
        "documents": documents,
    }


def _names(control: ControlApi, operation: str, element: str, **members: str) -> Iterator[str]:
    """Yield the texts of an element of a list, page by page."""
    more: dict[str, str] = {}
    while True:
        page = control.query("iam", operation, **members, **more)
        for each in page.iter(element):
            if each.text:
                yield each.text
        if page.findtext("IsTruncated") != "true":
            return
        more = {"Marker": page.findtext("Marker", "")}
