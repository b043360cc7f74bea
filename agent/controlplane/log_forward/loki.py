"""Loki as a destination: ``POST /loki/api/v1/push``, JSON in gzip.

Each stream is one of Loki with the labels ``log_group`` and ``log_stream``. Answers 429 and 5xx are tried
again, others are final: Loki has then taken what it could of the push.

Source: Grafana Loki's HTTP API, "Ingest logs".
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from agent.aws.http import read_body, worded
from agent.controlplane.log_forward.chunks import Refusal, Sent
from agent.errors import AgentError, AwsUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from agent.aws.http import AwsHttp
    from agent.controlplane.log_forward.chunks import Chunk
    from agent.controlplane.log_forward.targets import Target

PUSH: Final = "/loki/api/v1/push"
_LIMIT_S: Final = 30.0
_ANSWER_BYTES: Final = 64 * 1024
_SHOWN: Final = 300
_LEVEL: Final = 3


class HeadersUnusable(AgentError):
    """The file of headers cannot be used; the text names no header's value."""


class Loki:
    """See ``chunks.Destination``."""

    def __init__(self, target: Target, http: AwsHttp) -> None:
        """``http`` is closed by whoever made it."""
        self.name = target.name
        self._url = f"{target.url}{PUSH}"
        self._headers_file = target.headers_file
        self._http = http

    async def send(self, chunks: list[Chunk]) -> Sent:
        """Deliver chunks in one push."""
        try:
            headers, body = await asyncio.to_thread(self._packed, chunks)
            async with asyncio.timeout(_LIMIT_S):
                status, text = await self._post(headers, body)
        except TimeoutError:
            return Sent(chunks, f"no answer within {_LIMIT_S:g} s")
        except (aiohttp.ClientError, OSError, AwsUnavailable, HeadersUnusable) as error:
            return Sent(chunks, str(error) if isinstance(error, AgentError) else worded(error))
        if status < 300:
            return Sent([])
        trouble = f"{status} {text}".strip()
        if status in (401, 403, 404, 408, 429) or status >= 500:
            # The first three are mended by a person, here or there; the events must not go meanwhile.
            return Sent(chunks, trouble)
        return Sent([], refusals=[Refusal(one, len(one.events), trouble) for one in chunks])

    def _packed(self, chunks: list[Chunk]) -> tuple[dict[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        if self._headers_file is not None:
            headers |= read_headers(self._headers_file)
        return headers, gzip.compress(push_of(chunks), _LEVEL)

    async def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        async with self._http.session.post(
            self._url,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._http.proxy_for(self._url),
        ) as response:
            answer = await read_body(response, _ANSWER_BYTES, "push")
            return response.status, " ".join(answer.decode(errors="replace").split())[:_SHOWN]


def push_of(chunks: list[Chunk]) -> bytes:
    """Return the body of a push. Pure."""
    return msgspec.json.encode(
        {
            "streams": [
                {
                    "stream": {"log_group": chunk.group, "log_stream": chunk.stream},
                    "values": [
                        [f"{event.timestamp_ms}000000", event.message] for event in chunk.events
                    ],
                }
                for chunk in chunks
            ]
        }
    )


def read_headers(path: Path) -> dict[str, str]:
    """Return the headers in a file, one a line as ``Name: value``. Blocking.

    Raises:
        HeadersUnusable: the file cannot be read, or a line is not a header.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HeadersUnusable(f"--log-forward-headers {path} cannot be read: {error}") from None
    headers = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not value.strip().isprintable():
            raise HeadersUnusable(
                f"--log-forward-headers {path}: line {number} is not a header; write Name: value"
            )
        headers[name.strip()] = value.strip()
    return headers
