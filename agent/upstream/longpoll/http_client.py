"""The calls of the long-poll wire: one method per call, each with its own deadline.

Whatever the network or the server does, a call raises only ``ControlFailure``.

Tests: ``tests/unit/upstream/longpoll/test_client.py``,
``tests/unit/upstream/longpoll/test_full_report.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.model.wire import (
    HOST_KEY_HEADER,
    Changes,
    ChangesAnswer,
    Held,
    Hello,
    InstanceStatus,
    Register,
    Registered,
)
from agent.upstream.longpoll import answers
from agent.upstream.longpoll.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from agent.model.changes import TaskChange
    from agent.model.logs import LogsAnswer, LogStream
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.model.usage import Usage
    from agent.model.wire import AskedIdentity, HostIdentity
    from agent.upstream.longpoll.answers import ReadAssignments
    from agent.upstream.longpoll.exchange import Identity

_encode = msgspec.json.Encoder().encode


class HelloAnswer(NamedTuple):
    """Who answered, and when."""

    hello: Hello
    date: str
    """The ``Date`` header of the answer; empty if it has none."""


class HttpClient(Exchange):
    """The calls of a host to one control endpoint; ``close`` it."""

    async def hello(self, cluster: str = "") -> HelloAnswer:
        """Ask who control is, and whether hosts may register into a cluster."""
        query = {"cluster": cluster} if cluster else {}
        answer = await self.call("GET", "v1/hello", query=query)
        return HelloAnswer(answers.hello(answer.body), answer.date)

    async def identify(self, asked: AskedIdentity) -> HostIdentity:
        """Have a certificate request signed; raises ``answers.CallUnknown`` where control gives none."""
        answer = await self.call("POST", "v1/identities", body=_encode(asked))
        return answers.host_identity(answer.body)

    async def register(self, body: Register) -> Registered:
        """Register the host; the same client token gives the same instance."""
        answer = await self.call("POST", "v1/instances", body=_encode(body))
        return answers.registered(answer.body)

    async def assignments(
        self, identity: Identity, *, after: int, wait_s: float, credentials_after: int
    ) -> ReadAssignments | None:
        """Get the changes after a revision, waiting up to ``wait_s``; None if there are none.

        ``credentials_after`` is the serial of the newest credentials received, 0 for none.
        """
        answer = await self.call(
            "GET",
            f"{identity.path}/assignments",
            identity=identity,
            query={
                "after": str(after),
                "wait": f"{wait_s:g}",
                "credentials": str(credentials_after),
            },
            held_s=wait_s,
        )
        return answers.assignments(answer.body) if answer.body else None

    async def changes(self, identity: Identity, changes: list[TaskChange]) -> ChangesAnswer:
        """Send a batch of state changes, oldest first."""
        body = _encode(Changes(changes=changes))
        answer = await self.call("POST", f"{identity.path}/changes", identity=identity, body=body)
        return answers.changes(answer.body)

    async def held(self, identity: Identity, held: Held) -> ChangesAnswer:
        """Report what this host holds; only if the answer to the registration asked for it."""
        path = f"{identity.path}/held"
        answer = await self.call("POST", path, identity=identity, body=_encode(held))
        return answers.changes(answer.body)

    async def brought(self, identity: Identity, held: Held) -> ChangesAnswer:
        """Report tasks that were not ordered for this instance; the answer decides about each."""
        path = f"{identity.path}/brought"
        answer = await self.call("POST", path, identity=identity, body=_encode(held))
        return answers.changes(answer.body)

    async def usage(self, identity: Identity, usage: Usage) -> None:
        """Tell what tasks and host used; raises ``answers.CallUnknown`` for an older control."""
        path = f"{identity.path}/usage"
        await self.call("POST", path, identity=identity, body=_encode(usage))

    async def logs(self, identity: Identity, body: bytes) -> LogsAnswer:
        """Deliver log events; ``body`` is a ``model.logs.Logs``, gzip."""
        answer = await self.call("POST", "v1/logs", identity=identity, packed=body)
        return answers.logs(answer.body)

    async def log_stream(self, identity: Identity, stream: LogStream) -> None:
        """Have a log stream made; raises ``answers.NoLogGroup`` where its group is not there."""
        await self.call("POST", "v1/logs/streams", identity=identity, body=_encode(stream))

    async def secrets(self, identity: Identity, task_arn: str, names: list[str]) -> dict[str, str]:
        """Ask for values that control keeps for a task; raises ``answers.SecretsMissing``."""
        body = _encode({"instance": identity.instance_arn, "taskArn": task_arn, "names": names})
        answer = await self.call("POST", "v1/secrets", identity=identity, body=body)
        return answers.secrets(answer.body)

    async def tags(self, identity: Identity, resource_arn: str) -> dict[str, str]:
        """Ask for the tags of a task placed on this instance, or of the instance."""
        body = _encode({"instance": identity.instance_arn, "resource": resource_arn})
        answer = await self.call("POST", "v1/tags", identity=identity, body=body)
        return answers.tags(answer.body)

    async def protection(self, identity: Identity, asked: ProtectionCall) -> ProtectionOutcome:
        """Read or change the scale-in protection of a task; raises ``answers.RequestRefused``."""
        path = f"{identity.path}/protection"
        answer = await self.call("POST", path, identity=identity, body=_encode(asked))
        return answers.protection(answer.body)

    async def status(self, identity: Identity, status: str) -> None:
        """Set the status of this instance: ACTIVE, or DRAINING so that nothing is placed on it."""
        path = f"{identity.path}/status"
        body = _encode(InstanceStatus(status=status))
        await self.call("POST", path, identity=identity, body=body)

    async def command(self, identity: Identity, session_id: str) -> aiohttp.ClientWebSocketResponse:
        """Connect for a session of control with a command in a container; the caller closes it."""
        from agent.upstream.longpoll import commands  # noqa: PLC0415 - most hosts have none

        # As in all calls: where the certificate proves the host, the token stays at home.
        token = "" if self._has_certificate() else await self._token.current()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.host_key:
            headers[HOST_KEY_HEADER] = self.host_key
        url = self.endpoint / f"{identity.path}/commands/{session_id}"
        return await commands.connect(
            self._session, url, headers | identity.headers, server_name=self._tls.server_name
        )

    async def leave(self, identity: Identity) -> None:
        """Remove the instance from its cluster."""
        await self.call("DELETE", identity.path, identity=identity)

    async def ingress(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        held_s: float = 0.0,
    ) -> bytes:
        """Make a call of an ingress (``agent.model.ingress``); return its answer, empty for 204."""
        path = f"v1/ingresses/{path}"
        return (await self.call(method, path, query=query, body=body, held_s=held_s)).body
