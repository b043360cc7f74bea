"""The websocket that takes telemetry: signed frames, checked to the last field, and acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.backend import shapes, strict_json
from tests.backend.channel import Channel
from tests.backend.signatures import SignatureRefused

if TYPE_CHECKING:
    from aiohttp import web

    from tests.backend.api import Api
    from tests.backend.journal import Frame, Journal
    from tests.backend.signatures import Verifier

_LARGEST = 1 << 20
_ACKS = {
    "PublishMetricsRequest": "AckPublishMetric",
    "PublishHealthRequest": "AckPublishHealth",
    "PublishInstanceStatusRequest": "AckPublishInstanceStatus",
}
_CHECKS = {
    "PublishMetricsRequest": shapes.metrics,
    "PublishHealthRequest": shapes.health,
    "PublishInstanceStatusRequest": shapes.instance_status,
}
_QUERY = {"agentHash", "agentVersion", "cluster", "containerInstance"}


class Tcs(Channel):
    """The server side of TCS."""

    name = "tcs"

    def __init__(self, api: Api, journal: Journal, verifier: Verifier) -> None:
        super().__init__(api, journal, verifier)
        self.acknowledges = True
        """Whether messages are acknowledged."""
        self._unfinished: dict[tuple[int, str], str] = {}

    def heartbeat(self) -> None:
        """Send a heartbeat; nothing answers it."""
        self.send("HeartbeatMessage", {"healthy": True})

    def containers(self, task_arn: str) -> dict[str, dict[str, Any]]:
        """Return the newest figures of each container of a task."""
        found: dict[str, dict[str, Any]] = {}
        for frame in self.frames("PublishMetricsRequest"):
            for task in frame.message.get("taskMetrics", ()):
                if task.get("taskArn") == task_arn:
                    found |= {c["containerName"]: c for c in task.get("containerMetrics", ())}
        return found

    def check_query(self, request: web.Request, query: dict[str, str]) -> list[str]:
        """Return what is wrong with the query of an upgrade."""
        found = super().check_query(request, query)
        if set(query) - {"dockerVersion"} != _QUERY:
            return [*found, f"query has {sorted(query)}"]
        if query.get("dockerVersion", "").startswith("DockerVersion"):
            found.append(f"dockerVersion is {query['dockerVersion']!r}")
        if query["containerInstance"] not in self.api.instances:
            found.append(f"container instance {query['containerInstance']!r} is not registered")
        return found

    def unwrap(self, text: str, request: web.Request) -> str:
        """Check the signature in front of a frame and return the JSON."""
        head, gap, body = text.partition("\r\n\r\n")
        if not gap:
            raise strict_json.NotStrict("no signature in front")
        headers = _headers(head)
        expected = ["Authorization", "Host", "X-Amz-Date"]
        if "X-Amz-Security-Token" in request.headers:
            expected.append("X-Amz-Security-Token")
        if list(headers) != expected:
            raise strict_json.NotStrict(f"headers {list(headers)}, not {expected}")
        if headers["Host"] != request.headers["Host"]:
            raise strict_json.NotStrict(f"host {headers['Host']!r}")
        self._check_signature(headers, request.raw_path, body)
        if len(body.encode()) > _LARGEST + 200:  # the envelope does not count
            raise strict_json.NotStrict(f"{len(body)} bytes")
        return body

    def _check_signature(self, headers: dict[str, str], path: str, body: str) -> None:
        url = f"http://{headers['Host']}{path}"
        try:
            signed = self.verifier.check("GET", url, headers, body.encode())
        except SignatureRefused as error:
            if not self.verifier.clock.ahead_s:
                raise strict_json.NotStrict(f"{error.code}: {error}") from None
            return
        if list(signed) != [n.lower() for n in list(headers)[1:]]:
            raise strict_json.NotStrict(f"signed headers {signed}")

    def check_frame(self, frame: Frame, text: str) -> list[str]:
        """Return what is wrong with a message of the agent."""
        del text
        check = _CHECKS.get(frame.type)
        if check is None:
            return ["no message of an agent"]
        found = check(frame.message)
        if found:
            return found
        metadata = frame.message["metadata"]
        if metadata["containerInstance"] not in self.api.instances:
            found.append("another instance's")
        if "fin" in metadata:
            found += self._check_series(frame, metadata)
        return found

    def _check_series(self, frame: Frame, metadata: dict[str, Any]) -> list[str]:
        """Parts of one message share an id, follow each other, and the last one says so."""
        key = (frame.connection, frame.type)
        begun = self._unfinished.pop(key, None)
        if not metadata["fin"]:
            self._unfinished[key] = metadata["messageId"]
        if begun is not None and begun != metadata["messageId"]:
            return [f"{begun} was not finished"]
        return []

    async def taken(self, frame: Frame) -> None:
        """Acknowledge a message."""
        if self.acknowledges and frame.type in _ACKS:
            await self.reply(frame.connection, _ACKS[frame.type], {"message": "received"})


def _headers(head: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split("\r\n"):
        name, colon, value = line.partition(": ")
        if not colon or "\n" in line:
            raise strict_json.NotStrict(f"header {line!r}")
        headers[name] = value
    return headers
