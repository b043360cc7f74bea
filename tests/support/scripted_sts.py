"""An STS on the loopback that gives, refuses or fails as a test says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class Asked(NamedTuple):
    """One AssumeRole."""

    role: str
    session: str
    duration_s: int


class ScriptedSts:
    """STS; everything it gives has ``canary`` in its secrets."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.valid_s: float | None = None
        """How long what it gives is valid; as long as is asked for where it is None."""
        self.refused: set[str] = set()
        """Roles that nobody may assume."""
        self.fault: tuple[int, str] | None = None
        """Status and code of the answer to everything, whoever asks."""
        self.open = asyncio.Event()
        """Answers wait for it."""
        self.open.set()
        self.most_at_once = 0
        self._at_once = 0
        self._numbers = itertools.count(1)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[ScriptedSts]:
        """Serve until the end of the block."""
        sts = cls()
        app = web.Application()
        app.router.add_post("/", sts._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sts.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield sts
        finally:
            sts.open.set()
            await runner.cleanup()

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a control that asks here."""
        return {
            "AWS_ENDPOINT_URL_STS": self.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "keys-of-control-canary",
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": "/nonexistent",
        } | more

    async def _answer(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.open.wait()
            return self._answered(dict(urllib.parse.parse_qsl(await request.text())))
        finally:
            self._at_once -= 1

    def _answered(self, form: dict[str, str]) -> web.Response:
        assert form["Version"] == "2011-06-15"
        if form["Action"] == "GetCallerIdentity":
            return _xml(
                "<GetCallerIdentityResponse><GetCallerIdentityResult>"
                "<Arn>arn:aws:iam::123456789012:user/control</Arn><Account>123456789012</Account>"
                "</GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
        assert form["Action"] == "AssumeRole"
        role, duration_s = form["RoleArn"], int(form["DurationSeconds"])
        self.asked.append(Asked(role, form["RoleSessionName"], duration_s))
        if self.fault is not None:
            return _error(*self.fault, "as the test says")
        if role in self.refused:
            text = f"User: control is not authorized to perform: sts:AssumeRole on resource: {role}"
            return _error(403, "AccessDenied", text)
        number = next(self._numbers)
        valid_s = duration_s if self.valid_s is None else self.valid_s
        expiration = datetime.now(UTC) + timedelta(seconds=valid_s)
        return _xml(
            f'<AssumeRoleResponse xmlns="{_NAMESPACE}"><AssumeRoleResult>'
            f"<AssumedRoleUser><Arn>{role}/x</Arn></AssumedRoleUser><Credentials>"
            f"<AccessKeyId>ASIA{number:016d}</AccessKeyId>"
            f"<SecretAccessKey>secret-canary-{number}</SecretAccessKey>"
            f"<SessionToken>token-canary-{number}</SessionToken>"
            f"<Expiration>{expiration.isoformat()}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/xml")


def _error(status: int, code: str, message: str) -> web.Response:
    return _xml(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{message}</Message></Error></ErrorResponse>",
        status,
    )
