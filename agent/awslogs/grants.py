"""Who may write logs through the relay: keys for each task, made from one secret of this host.

The engine's log driver asks for keys under a path that names an id (``awslogs-credentials-endpoint``),
and signs with them. Id and keys follow from the secret and the task, so that nothing needs to be kept:
containers that were started by an earlier process of the agent go on to write. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final, NamedTuple

from agent.awslogs import cloudwatch
from agent.errors import PayloadError
from agent.model import ids

_ID: Final = re.compile(r"awslogs\.(any|create)\.([A-Za-z0-9-]{1,128})\.([0-9a-f]{64})")
_KEY: Final = re.compile(r"AWSLOGS-(ANY|CREATE)-([A-Za-z0-9-]{1,128})")


class Grant(NamedTuple):
    """Whose logs somebody may write."""

    task_id: str
    create_group: bool
    """Whether log groups that are missing are made (``awslogs-create-group``)."""


class LogKeys(NamedTuple):
    """What a log driver signs with. Has no expiry."""

    access_key: str
    """Names the grant."""
    secret_key: str

    def __repr__(self) -> str:
        """Show whose keys these are, without the secret."""
        return f"LogKeys({self.access_key!r})"


class LogGrants:
    """Makes ids and keys, and knows them again."""

    def __init__(self, secret: bytes) -> None:
        """Take the secret of this host, which must be the same in every process of its agent."""
        self._secret = secret

    def __repr__(self) -> str:
        return "LogGrants(...)"

    def credentials_id(self, grant: Grant) -> str:
        """Return the id under which a grant's keys are given out; whoever has it gets them.

        Raises:
            ValueError: the task's id has characters that no id has.
        """
        kind = "create" if grant.create_group else "any"
        made = f"awslogs.{kind}.{grant.task_id}.{self._made('id', kind, grant.task_id)}"
        if not _ID.fullmatch(made):
            raise ValueError(f"{grant.task_id!r} is not an id of a task")
        return made

    def keys(self, credentials_id: str) -> LogKeys | None:
        """Return the keys of an id; None for one that was not made with this secret."""
        read = _ID.fullmatch(credentials_id)
        if read is None:
            return None
        kind, task_id, proof = read.groups()
        if not hmac.compare_digest(proof, self._made("id", kind, task_id)):
            return None
        access_key = f"AWSLOGS-{kind.upper()}-{task_id}"
        return LogKeys(access_key, self._made("key", kind, task_id))

    def grant(self, access_key: str) -> tuple[Grant, LogKeys] | None:
        """Return what an access key names and its keys; None for one that looks like no key of ours.

        Nothing is proven by that: the signature must have been made with the secret key.
        """
        read = _KEY.fullmatch(access_key)
        if read is None:
            return None
        kind, task_id = read[1].lower(), read[2]
        keys = LogKeys(access_key, self._made("key", kind, task_id))
        return Grant(task_id, create_group=kind == "create"), keys

    def _made(self, *words: str) -> str:
        text = "\0".join(("awslogs", *words)).encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


class RelayAddress:
    """Where the engine's driver finds what takes its logs; implements ``contract.LogRelay``."""

    def __init__(self, grants: LogGrants, port: int) -> None:
        """Take the port of the relay on the loopback."""
        self._grants = grants
        self.endpoint = f"http://127.0.0.1:{port}"
        """The relay's URL."""

    def credentials_id(self, task_arn: str, *, create_group: bool) -> str:
        """Return the id by which the engine gets the keys of a task; always the same one.

        Raises:
            PayloadError: the ARN is not that of a task.
        """
        grant = Grant(ids.task_id(task_arn), create_group=create_group)
        try:
            return self._grants.credentials_id(grant)
        except ValueError as error:
            raise PayloadError(f"logs cannot be delivered: {error}") from None

    async def cloudwatch_endpoint(self, region: str) -> str:
        """Return the URL of CloudWatch Logs for the driver; empty where it finds that by itself."""
        return await cloudwatch.endpoint(region)
