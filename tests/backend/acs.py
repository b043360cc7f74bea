"""The websocket that brings orders: what the server sends, and what it may expect in answer."""

from __future__ import annotations

import json
import threading
import uuid
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.backend.api import cluster_arn, name_of
from tests.backend.channel import PATIENCE_S, Channel

if TYPE_CHECKING:
    from aiohttp import web

    from tests.backend.api import Api
    from tests.backend.journal import Frame, Journal
    from tests.backend.signatures import Verifier

_FIELDS = {
    "AckRequest": {"cluster", "containerInstance", "messageId"},
    "NackRequest": {"cluster", "containerInstance", "messageId", "reason"},
    "HeartbeatAckRequest": {"messageId"},
    "IAMRoleCredentialsAckRequest": {"credentialsId", "expiration", "messageId"},
    "TaskStopVerificationMessage": {"messageId", "stopCandidates"},
}
_ACKED = {
    "PayloadMessage",
    "AttachTaskNetworkInterfacesMessage",
    "AttachInstanceNetworkInterfacesMessage",
    "ConfirmAttachmentMessage",
    "TaskManifestMessage",
    "StageUpdateMessage",
    "PerformUpdateMessage",
}
_QUERY = {
    "agentHash",
    "agentVersion",
    "clusterArn",
    "containerInstanceArn",
    "protocolVersion",
    "sendCredentials",
    "seqNum",
}


class Acs(Channel):
    """The server side of ACS; answers are checked against what was sent."""

    name = "acs"

    def __init__(self, api: Api, journal: Journal, verifier: Verifier) -> None:
        super().__init__(api, journal, verifier)
        self._lock = threading.Lock()
        self._sent: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    # -- sending ----------------------------------------------------------------------------------

    def send(self, type_: str, message: Any) -> None:
        """Send one message; one with a ``messageId`` is remembered for its acknowledgement."""
        self.remember(type_, message)
        super().send(type_, message)

    def remember(self, type_: str, message: Any) -> None:
        """Expect answers to a message that a test sends by itself."""
        if isinstance(message, dict) and isinstance(message.get("messageId"), str):
            with self._lock:
                self._sent.setdefault(message["messageId"], []).append((type_, message))

    def order(self, type_: str, **message: Any) -> str:
        """Send a message with a new id to the instance that is connected; return the id.

        Fields that are given stand as they are; a field that is None is left out.
        """
        connection = self.wait_open()
        whole: dict[str, Any] = {
            "messageId": str(uuid.uuid4()),
            "clusterArn": cluster_arn(name_of(connection.query.get("clusterArn", ""))),
            "containerInstanceArn": connection.query.get("containerInstanceArn", ""),
            **message,
        }
        self.send(type_, {k: v for k, v in whole.items() if v is not None})
        return str(whole["messageId"])

    def heartbeat(self) -> str:
        """Send a heartbeat; return its id."""
        message_id = str(uuid.uuid4())
        self.send("HeartbeatMessage", {"messageId": message_id, "healthy": True})
        return message_id

    # -- expecting --------------------------------------------------------------------------------

    def acks(self, message_id: str) -> list[Frame]:
        """Return the acknowledgements of a message."""
        return [f for f in self.frames("AckRequest") if f.message.get("messageId") == message_id]

    def wait_ack(self, message_id: str, *, count: int = 1, within_s: float = PATIENCE_S) -> Frame:
        """Return the ``count``-th acknowledgement of a message."""
        return self.wait_frame(
            "AckRequest",
            within_s=within_s,
            count=count,
            where=lambda f: f.message.get("messageId") == message_id,
        )

    def wait_nack(self, message_id: str, *, within_s: float = PATIENCE_S) -> Frame:
        """Return the refusal of a message."""
        return self.wait_frame(
            "NackRequest",
            within_s=within_s,
            where=lambda f: f.message.get("messageId") == message_id,
        )

    def beat(self, *, within_s: float = PATIENCE_S) -> float:
        """Send a heartbeat and return how long its answer took, in seconds.

        Handlers run one after another, so everything sent before has been dealt with by then.
        """
        asked_at = monotonic()
        message_id = self.heartbeat()
        frame = self.wait_frame(
            "HeartbeatAckRequest",
            within_s=within_s,
            where=lambda f: f.message.get("messageId") == message_id,
        )
        return frame.at - asked_at

    # -- checking ---------------------------------------------------------------------------------

    def check_query(self, request: web.Request, query: dict[str, str]) -> list[str]:
        """Return what is wrong with the query of an upgrade."""
        found = super().check_query(request, query)
        if set(query) - {"dockerVersion"} != _QUERY:
            found.append(f"query has {sorted(query)}")
            return found
        fixed = {"protocolVersion": "2", "seqNum": "1"}
        found += [f"{k} is {query[k]!r}, not {v!r}" for k, v in fixed.items() if query[k] != v]
        if query["sendCredentials"] not in ("true", "false"):
            found.append(f"sendCredentials is {query['sendCredentials']!r}")
        if not query.get("dockerVersion", "DockerVersion: ").startswith("DockerVersion: "):
            found.append(f"dockerVersion is {query['dockerVersion']!r}")
        if not query["agentHash"] or not query["agentVersion"]:
            found.append("agent's version or hash is empty")
        if query["containerInstanceArn"] not in self.api.instances:
            found.append(f"container instance {query['containerInstanceArn']!r} is not registered")
        return found

    def check_frame(self, frame: Frame, text: str) -> list[str]:
        """Return what is wrong with a message of the agent."""
        del text
        fields = _FIELDS.get(frame.type)
        if fields is None:
            return ["no message of an agent"]
        message = frame.message
        if set(message) != fields:
            return [f"fields {sorted(message)}, not {sorted(fields)}"]
        with self._lock:
            sent = list(self._sent.get(message["messageId"], ()))
        if not sent:
            return ["answers no message that was sent"]
        # The same id may have come with several messages: it must fit one of them.
        found = min((_check_answer(frame, kind, order) for kind, order in sent), key=len)
        if frame.type in ("AckRequest", "NackRequest"):
            answers = len(self.acks(message["messageId"])) + 1
            if answers > len(sent):
                found.append(f"answered {answers} times, sent {len(sent)} times")
        return found


def _check_answer(frame: Frame, kind: str, order: dict[str, Any]) -> list[str]:
    """Return why a message of the agent is not an answer to this one."""
    message = frame.message
    match frame.type:
        case "AckRequest" | "NackRequest":
            echo = {
                "cluster": _text(order.get("clusterArn")),
                "containerInstance": _text(order.get("containerInstanceArn")),
            }
            found = [
                f"{name} is {message[name]!r}, not {value!r}"
                for name, value in echo.items()
                if message[name] != value
            ]
            if kind not in _ACKED:
                found.append(f"{frame.type} of a {kind}")
            if frame.type == "NackRequest" and not message["reason"]:
                found.append("no reason")
            return found
        case "HeartbeatAckRequest":
            return [] if kind == "HeartbeatMessage" else [f"answers a {kind}"]
        case "IAMRoleCredentialsAckRequest":
            given = (message["credentialsId"], message["expiration"])
            return [] if given in _credentials(order) else [f"{given} were never sent"]
        case _:
            return _check_candidates(message, kind, order)


def _text(value: Any) -> str:
    """Return what an answer repeats of a field: nothing where there is no text in it."""
    return value if isinstance(value, str) else ""


def _credentials(order: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return id and expiry of all credentials in a message, which may hold anything."""
    holders = [order.get("roleCredentials")]
    tasks = order.get("tasks")
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, dict):
            holders += [task.get("roleCredentials"), task.get("executionRoleCredentials")]
    return [
        (_text(h.get("credentialsId")), _text(h.get("expiration")))
        for h in holders
        if isinstance(h, dict)
    ]


def _check_candidates(message: dict[str, Any], kind: str, order: dict[str, Any]) -> list[str]:
    if kind != "TaskManifestMessage":
        return [f"asks about a {kind}"]
    if not message["stopCandidates"]:
        return ["names no candidate"]
    tasks = order.get("tasks")
    named = [t for t in tasks if isinstance(t, dict)] if isinstance(tasks, list) else []
    listed = [t.get("taskArn") for t in named if t.get("desiredStatus") == "RUNNING"]
    found = []
    for candidate in message["stopCandidates"]:
        expected = {
            "desiredStatus": "STOPPED",
            "taskArn": candidate.get("taskArn"),
            "taskClusterArn": _text(order.get("clusterArn")),
        }
        if candidate != expected:
            found.append(f"candidate {json.dumps(candidate)}")
        if candidate.get("taskArn") in listed:
            found.append(f"candidate {candidate['taskArn']} is in the manifest")
    return found
