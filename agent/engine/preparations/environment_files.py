"""Environment files of containers: read from S3 into memory, and given in the create body alone.

Source: Amazon ECS agent 1.105.1, ``taskresource/envFiles`` (parsing, precedence, texts of failures). Ours
writes no file to the disk, so that nothing of it is left there.

Tests: ``tests/unit/engine/preparations/test_environment_files.py``.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.engine.preparations.contract import Provision
from agent.engine.preparations.execution_role import ask_execution_role, execution_credentials
from agent.engine.preparations.together import together, unfetched
from agent.errors import AwsFailure, PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.lookups import AskRole
    from agent.model.payload import Container, TaskPayload

LIMIT_S: Final = 30.0
"""For all files of a task together, once credentials are there."""
FILE_BYTES: Final = 1024 * 1024
"""Largest file: more than that fits into no process's environment."""
LINE_BYTES: Final = 64 * 1024
"""Longest line. Source: the scanner of Amazon's agent, which fails there, too."""
_ARN: Final = re.compile(r"arn:[a-z-]+:s3:::([^/]+)/(.+)", re.DOTALL)


class S3Object(NamedTuple):
    """Where a file is."""

    bucket: str
    key: str


class BadLine(ValueError):
    """A file cannot be used; shows nothing of what is in it."""


class EnvironmentFilePreparation:
    """Environment files; see ``contract.Preparation``."""

    name = "environment-files"
    doing = "fetch environment files"
    is_remote = True

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether a container has environment files."""
        return any(container.environment_files for container in payload.containers)

    def check(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` for a file that is not named as one of S3."""
        for container in payload.containers:
            objects_of(payload, container)

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Fetch every file, each once, and read it."""
        wanted = {c.name: objects_of(payload, c) for c in payload.containers}
        try:
            await execution_credentials(payload, access.credentials)
        except PayloadError as error:
            raise PayloadError(f"environment file resource: {error}") from None
        role = ask_execution_role(payload, access.credentials)
        every = list(dict.fromkeys(one for those in wanted.values() for one in those))
        names = ", ".join(f"{one.bucket}/{one.key}" for one in every)
        found = await together(
            [partial(_file, one, role, access) for one in every],
            limit_s=LIMIT_S,
            late=f"the environment files {names} did not come within {LIMIT_S:g} s",
        )
        files = dict(zip(every, found, strict=True))
        return Provision(
            file_environment={
                name: _merged([files[one] for one in those])
                for name, those in wanted.items()
                if those
            }
        )

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Leave everything: nothing was made."""


def objects_of(payload: TaskPayload, container: Container) -> list[S3Object]:
    """Return the files of a container, in order.

    Raises:
        PayloadError: one is not named as an object of S3.
    """
    found = []
    for file in container.environment_files:
        kind, value = file.get("type") or "", file.get("value") or ""
        arn = _ARN.fullmatch(value)
        if kind != "s3" or arn is None:
            problem = (
                f"type {kind!r} is not s3" if kind != "s3" else f"{value!r} is not an ARN of S3"
            )
            cause = f"environment file of container {container.name}: {problem}"
            raise PayloadError(reasons.resource_unusable(payload.arn, cause))
        found.append(S3Object(arn[1], arn[2]))
    return found


def variables(content: bytes) -> dict[str, str]:
    """Return what a file sets; nothing is trimmed, unquoted or expanded, as on Amazon ECS. Pure.

    Lines that begin with ``#`` and lines without ``=`` or without a name are skipped; the last line of
    a name counts.

    Raises:
        BadLine: a line is too long, or has a NUL character.
    """
    found: dict[str, str] = {}
    for number, whole in enumerate(content.split(b"\n"), start=1):
        line = whole.removesuffix(b"\r")
        if len(line) > LINE_BYTES:
            raise BadLine(f"line {number} is longer than {LINE_BYTES} bytes")
        if line.startswith(b"#") or b"=" not in line:
            continue
        name, _, value = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").partition(
            "="
        )
        if "\0" in name or "\0" in value:
            raise BadLine(f"line {number} has a NUL character, which no variable can hold")
        if name:
            found[name] = value
    return found


def _merged(files: list[dict[str, str]]) -> dict[str, str]:
    """Return what several files set together: the first one that names a variable counts."""
    whole: dict[str, str] = {}
    for file in reversed(files):
        whole |= file
    return whole


async def _file(wanted: S3Object, role: AskRole, access: HostAccess) -> dict[str, str]:
    bucket, key = wanted
    try:
        content = await access.aws.object(role, "", bucket, key, limit_bytes=FILE_BYTES)
        return variables(content)
    except AwsFailure as error:
        raise unfetched(
            f"unable to download env file with key {key} from bucket {bucket}, error: {error}"
        ) from None
    except BadLine as error:
        raise unfetched(
            f"unable to read env file with key {key} from bucket {bucket}, error: {error}"
        ) from None
