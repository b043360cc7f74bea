"""What control knows this host by, a token or keys: there, readable by root alone, and usable."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import msgspec
from yarl import URL

from agent.control.credentials import is_readable_on_the_way, read_token, worded
from agent.doctor import reading
from agent.doctor.checks import amazon, keys
from agent.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.host import Host


class SecretFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the token file; not the token."""

    path: str
    missing: bool = False
    unread: bool = False
    """Who asks may not read it, which the agent may: it is root's."""
    trouble: str = ""
    """Why it is of no use, with the mend; empty when the agent can read a token from it."""
    mode: int = 0o600
    owner: int = 0


async def check(host: Host) -> list[Finding]:
    """Look at the token file that the settings name, or at the keys for Amazon ECS."""
    if amazon.is_meant(host.settings):
        file, carried = await keys.look(host.settings), "AWS_ACCESS_KEY_ID" in host.environ
        return keys.judge(Verdict("credentials"), host.settings, file, carried=carried)
    path = host.settings.control_token_file
    found = None if path is None else await reading.blocking(lambda: look_at(path))
    return judge(found, endpoint=host.settings.control_endpoint)


def look_at(path: Path) -> SecretFile:
    """Read what is to be known of a token file. Blocks."""
    try:
        facts = path.stat()
        read_token(path)
    except PermissionError:
        return SecretFile(path=str(path), unread=True)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        return SecretFile(path=str(path), missing=missing, trouble=worded(path, error))
    return SecretFile(path=str(path), mode=stat.S_IMODE(facts.st_mode), owner=facts.st_uid)


def judge(found: SecretFile | None, *, endpoint: str) -> list[Finding]:
    """Return the verdict on the token file; ``found`` is None where the settings name none. Pure."""
    verdict = Verdict("credentials")
    if found is None:
        _without_token(verdict, endpoint)
    elif found.missing:
        verdict.error(
            f"ECS_CONTROL_TOKEN_FILE names {found.path}, which is not there",
            "join again with the token that control's operator gave you",
            "ecs-agent join URL --token TOKEN",
        )
    elif found.unread:
        verdict.unknown(
            f"whether the token file {found.path} is there and good", "it is root's alone"
        )
    elif found.trouble:
        seen, _, mend = found.trouble.partition("; ")
        verdict.error(f"the token file cannot be used: {seen}", mend)
    else:
        _judge_mode(verdict, found)
    return verdict.findings


def _without_token(verdict: Verdict, endpoint: str) -> None:
    if endpoint and is_readable_on_the_way(URL(endpoint)):
        verdict.warn(
            "no token is set, and control is asked over plain HTTP: whoever is on the way can "
            "give this host orders",
            "have control ask for tokens and serve TLS, then join with both",
            "ecs-agent join https://CONTROL:PORT --token TOKEN",
        )
        return
    verdict.ok(
        "no token is set; control is asked without one"
        if endpoint
        else "neither a token nor keys are set"
    )


def _judge_mode(verdict: Verdict, found: SecretFile) -> None:
    wrong = []
    if found.owner != 0:
        wrong.append(f"belongs to user {found.owner}")
    if found.mode & 0o077:
        wrong.append(f"has mode {found.mode:04o}")
    if wrong:
        verdict.error(
            f"the token file {found.path} {' and '.join(wrong)}: others can read or change it",
            "give it to root alone, and have control's operator change the token",
            f"chown root:root {found.path} && chmod 600 {found.path}",
        )
    else:
        verdict.ok(f"the token file {found.path} is root's alone")
