"""Talks to the control endpoint of this host over its Unix socket, by which its owner needs no key.

Blocking: one command, one connection per call. Raises ``CliError``, whose text says what to do.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import msgspec

from agent.cli import env
from agent.cli.client import CliError
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from agent.controlplane.front.address import Address

ANSWER_LIMIT_S: Final = 60.0
_TARGETS: Final = {
    "ecs": "AmazonEC2ContainerServiceV20141113",
    "ssm": "AmazonSSM",
}
_VERSIONS: Final = {"iam": "2010-05-08"}


class ControlApi:
    """Calls of APIs that a control endpoint serves."""

    def __init__(self, address: Address) -> None:
        """Take where control is."""
        self.address = address

    @classmethod
    def find(cls, data_dir: Path | None) -> ControlApi:
        """Return the API of the control endpoint of this host.

        Raises:
            CliError: none has run here, or this user may not ask it.
        """
        directories = [data_dir] if data_dir is not None else list(env.DATA_DIRS)
        address, place = env.find(directories)
        if not address.socket:
            raise CliError(
                f"the control endpoint in {place} has no socket; use the AWS CLI: eval $(ecs-agent env)"
            )
        return cls(address)

    def call(self, service: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Make a call of an API of AWS; raises ``CliError`` with the text of its error."""
        headers = {
            "X-Amz-Target": f"{_TARGETS[service]}.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        return self.post("/", request, headers)

    def query(self, service: str, operation: str, **members: str) -> Element:
        """Make a call of an API that takes forms and answers in XML; return its result.

        Raises:
            CliError: with the text of its error.
        """
        form = urlencode({"Action": operation, "Version": _VERSIONS[service], **members})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            # Names the service; on this socket nobody checks a signature.
            "Authorization": f"AWS4-HMAC-SHA256 Credential=owner/20260101/us-east-1/{service}/aws4_request",
        }
        with self._asked("/", form.encode(), headers) as response:
            return _result(operation, response.status, response.read())

    def post(
        self, path: str, request: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Make a call and return the fields of its answer; raises ``CliError``."""
        with self._asked(path, msgspec.json.encode(request), headers or {}) as response:
            return _fields(response.status, response.read())

    def stream(self, path: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Make a call whose answer is a line of JSON for each thing that is told, and yield them.

        Raises:
            CliError: the call is refused, or nothing comes any more, not even an empty line.
        """
        with self._asked(path, msgspec.json.encode(request), {}) as response:
            if response.status != 200:
                _fields(response.status, response.read())
            for line in response:
                if line.strip():
                    yield _fields(200, line)

    @contextlib.contextmanager
    def _asked(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        given = {"Content-Type": "application/json"} | headers
        connection = http.client.HTTPConnection("localhost", timeout=ANSWER_LIMIT_S)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(ANSWER_LIMIT_S)
            connection.sock.connect(self.address.socket)
            connection.request("POST", path, body=body, headers=given)
            yield connection.getresponse()
        except PermissionError:
            raise CliError(
                f"only root and the user of control may use {self.address.socket}; use sudo"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CliError(
                f"the control endpoint does not answer on {self.address.socket} ({error}); start it with "
                "'systemctl start ecs-agent-control', 'ecs-agent control' or 'ecs-agent standalone'"
            ) from None
        finally:
            connection.close()


def _result(operation: str, status: int, raw: bytes) -> Element:
    """Return the element of the result, or the whole answer of a call that has none; without name spaces."""
    try:
        root = ET.fromstring(raw)  # noqa: S314 - from control, over a socket of its owner
    except ET.ParseError:
        raise CliError(
            f"the control endpoint answered {status} with something else than XML; use the ecs-agent of "
            "its version"
        ) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if status != 200:
        code, message = root.findtext("Error/Code", ""), root.findtext("Error/Message", "")
        raise CliError(f"{code}: {message}")
    result = root.find(f"{operation}Result")
    return root if result is None else result


def _fields(status: int, raw: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except BAD_JSON:
        raise CliError(
            f"the control endpoint answered {status} with something else than JSON; use the ecs-agent of "
            "its version"
        ) from None
    if status != 200:
        kind = str(fields.get("__type", "")).rpartition("#")[2]
        raise CliError(
            f"{kind}: {fields.get('message', status)}"
            if kind
            else str(fields.get("message", status))
        )
    return fields
