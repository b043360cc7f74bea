"""The host's credentials, a token or keys: present, readable only by root, and usable."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

import msgspec
from yarl import URL

from agent.doctor import reading
from agent.doctor.checks import amazon, keys
from agent.doctor.findings import Finding, FindingList
from agent.errors import ConfigError
from agent.upstream.certificates.files import IdentityFiles
from agent.upstream.credentials import is_readable_on_the_way, read_token, worded
from agent.upstream.longpoll.exchange import parse_endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Settings
    from agent.doctor.host import HostFacts


class SecretFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the token file, without the token."""

    path: str
    missing: bool = False
    is_spare: bool = False
    """Whether the host has a certificate, and so needs its token only for another one."""
    unread: bool = False
    """This user may not read it; the agent, as root, may."""
    trouble: str = ""
    """Why it cannot be used, with the fix; empty if the agent can read a token from it."""
    mode: int = 0o600
    owner: int = 0


async def check(host: HostFacts) -> list[Finding]:
    """Check the token file that the settings name, or the keys for Amazon ECS."""
    if amazon.is_meant(host.settings):
        file, carried = await keys.look(host.settings), "AWS_ACCESS_KEY_ID" in host.environ
        return keys.judge(FindingList("credentials"), host.settings, file, carried=carried)
    path = host.settings.control_token_file
    found = None if path is None else await reading.blocking(lambda: look_at(path))
    if found is not None and await reading.blocking(lambda: _has_certificate(host.settings)):
        found = msgspec.structs.replace(found, is_spare=True)
    return judge(found, endpoint=host.settings.control_endpoint)


def _has_certificate(settings: Settings) -> bool:
    """Return whether the agent has a certificate that counts now. Blocks."""
    try:
        endpoint = str(parse_endpoint(settings.control_endpoint))
    except ConfigError:
        return False
    found = IdentityFiles(settings.data_dir).load(endpoint)
    return found is not None and found.expires_at > time.time()


def look_at(path: Path) -> SecretFile:
    """Read the facts about a token file. Blocks."""
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
    """Return the verdict on the token file; ``found`` is None if none is set. Pure."""
    verdict = FindingList("credentials")
    if found is None:
        _without_token(verdict, endpoint)
    elif found.missing and found.is_spare:
        verdict.ok(
            f"the host has a certificate; it needs no token before that expires, and {found.path} is not there"
        )
    elif found.missing:
        verdict.error(
            f"ECS_CONTROL_TOKEN_FILE names {found.path}, which does not exist",
            "join again with the token from control's operator",
            "ecs-agent join URL --token TOKEN",
        )
    elif found.unread:
        verdict.unknown(
            f"whether the token file {found.path} exists and is valid", "only root can read it"
        )
    elif found.trouble:
        seen, _, mend = found.trouble.partition("; ")
        verdict.error(f"the token file cannot be used: {seen}", mend)
    else:
        _judge_mode(verdict, found)
    return verdict.findings


def _without_token(verdict: FindingList, endpoint: str) -> None:
    if endpoint and is_readable_on_the_way(URL(endpoint)):
        verdict.warn(
            "no token is set, and control is used over plain HTTP: others on the network can "
            "give this host orders",
            "set up tokens and TLS on control, then join with both",
            "ecs-agent join https://CONTROL:PORT --token TOKEN",
        )
        return
    verdict.ok(
        "no token is set; the agent calls control without one"
        if endpoint
        else "neither a token nor keys are set"
    )


def _judge_mode(verdict: FindingList, found: SecretFile) -> None:
    wrong = []
    if found.owner != 0:
        wrong.append(f"belongs to user {found.owner}")
    if found.mode & 0o077:
        wrong.append(f"has mode {found.mode:04o}")
    if wrong:
        verdict.error(
            f"the token file {found.path} {' and '.join(wrong)}: others can read or change it",
            "make it readable only by root, and ask control's operator to change the token",
            f"chown root:root {found.path} && chmod 600 {found.path}",
        )
    else:
        verdict.ok(f"only root can read the token file {found.path}")
