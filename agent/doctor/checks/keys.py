"""The key files of a host of Amazon ECS: present, readable only by root, and not expired.

The control check covers whether Amazon accepts the keys, and the keys of an instance role.
"""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

import msgspec

from agent.aws import rotating
from agent.doctor import reading
from agent.errors import CredentialsMissing

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Settings
    from agent.doctor.findings import Finding, FindingList

_STALE_S = 3600.0
"""Keys of the SSM agent are valid for an hour; it writes new ones every half hour."""
_SSM = "systemctl status amazon-ssm-agent"


class KeysFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the rotating credentials file, without the keys."""

    path: str
    missing: bool = False
    unread: bool = False
    """This user may not read it; the agent, as root, may."""
    trouble: str = ""
    """Why it cannot be used."""
    mode: int = 0o600
    owner: int = 0
    age_s: float = 0.0
    """Seconds since it was written."""
    left_s: float | None = None
    """Seconds until its keys expire; None if the file does not say."""


async def look(settings: Settings) -> KeysFile:
    """Return the facts about the rotating credentials file."""
    path, profile = settings.rotating_credentials_file, settings.alternate_credential_profile
    return await reading.blocking(lambda: look_at(path, profile))


def look_at(path: Path, profile: str) -> KeysFile:
    """Read the facts about a credentials file. Blocks."""
    try:
        facts = path.stat()
        keys = rotating.read(path, profile)
    except (FileNotFoundError, NotADirectoryError):
        return KeysFile(path=str(path), missing=True)
    except PermissionError:
        return KeysFile(path=str(path), unread=True)
    except OSError as error:
        return KeysFile(path=str(path), trouble=str(error.strerror))
    except CredentialsMissing as error:
        return KeysFile(path=str(path), trouble=str(error))
    now = time.time()
    expires_at = None if keys is None else keys.expires_at
    return KeysFile(
        path=str(path),
        missing=keys is None,
        mode=stat.S_IMODE(facts.st_mode),
        owner=facts.st_uid,
        age_s=max(0.0, now - facts.st_mtime),
        left_s=None if expires_at is None else expires_at - now,
    )


def judge(
    verdict: FindingList, settings: Settings, found: KeysFile, *, carried: bool = False
) -> list[Finding]:
    """Return the verdict on the keys of the host. Pure.

    ``carried`` means that they come from the environment of the current shell.
    """
    if settings.aws_access_key_id:
        key = settings.aws_access_key_id.reveal()[-4:]
        if carried:
            verdict.warn(
                f"the key ...{key} is only in the environment of this shell, not of the service",
                "unset AWS_ACCESS_KEY_ID and check again, or put the keys into ecs.config",
            )
        else:
            verdict.ok(f"the agent signs with the key ...{key} from its settings")
        if settings.external and not found.missing:
            verdict.warn(
                f"{found.path} exists too but is not used: keys in the settings come first",
                "remove AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY if the SSM agent should "
                "provide the keys",
            )
    elif not found.missing:
        _judge_file(verdict, settings, found)
    elif settings.external:
        verdict.warn(
            f"no keys are set, and {found.path} does not exist: the SSM agent has not registered "
            "this host",
            "register it with a Systems Manager activation, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY",
            _SSM,
        )
    else:
        verdict.ok("no keys are set: the instance role provides them")
    return verdict.findings


def _judge_file(verdict: FindingList, settings: Settings, found: KeysFile) -> None:
    if found.unread:
        verdict.unknown(
            f"whether the keys in {found.path} exist and are valid", "only root can read it"
        )
        return
    if found.trouble:
        tell = verdict.error if settings.external else verdict.warn
        tell(
            f"the credentials file cannot be used: {found.trouble}",
            "let the SSM agent write it again, or set ECS_ROTATING_CREDENTIALS_FILE and "
            "ECS_ALTERNATE_CREDENTIAL_PROFILE to another one",
            _SSM,
        )
        return
    if found.mode & 0o077 or found.owner != 0:
        verdict.error(
            f"the credentials file {found.path} has mode {found.mode:04o} and belongs to user "
            f"{found.owner}: others can read or change it",
            "make it readable only by root",
            f"chown root:root {found.path} && chmod 600 {found.path}",
        )
    if found.left_s is not None and found.left_s <= 0:
        verdict.error(
            f"the keys in {found.path} expired {_span(-found.left_s)} ago",
            "find out why the SSM agent does not write new ones",
            _SSM,
        )
    elif found.left_s is None and settings.external and found.age_s > _STALE_S:
        verdict.warn(
            f"{found.path} was written {_span(found.age_s)} ago, but keys of the SSM agent are "
            "valid for an hour",
            "make sure that the SSM agent runs if it should provide the keys",
            _SSM,
        )
    elif not verdict.findings:
        left = "" if found.left_s is None else f", valid for another {_span(found.left_s)}"
        verdict.ok(f"only root can read the credentials file {found.path}{left}")


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
