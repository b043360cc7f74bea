"""Signature Version 4 for calls, websocket upgrades and telemetry frames, computed by botocore.

Pure except for the clock. Signs exactly what goes on the wire: pass each URL as it will be sent
(use `wire_url`). The URL is never decoded and encoded again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.aws.clock import AwsClock
    from agent.aws.keys import Keys

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_PLAIN: Final = {"ws": "http", "wss": "https"}
_UNRESERVED: Final = "-_.~"
_S3: Final = "s3"
"""Signs paths as they are sent, and wants the hash of the body in a header."""


class Signer:
    """Signs for one service in one region. Safe to share; keeps no keys."""

    def __init__(self, region: str, service: str, clock: AwsClock) -> None:
        self.region = region
        self.service = service
        self.clock = clock

    def headers(
        self,
        keys: Keys,
        *,
        method: str,
        url: URL | str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> dict[str, str]:
        """Return the headers to add to a request: ``Authorization`` and related headers.

        ``headers`` are the existing headers of the request that must be signed. ``Host`` is signed
        as aiohttp will send it and is not returned. ``ws`` and ``wss`` are signed as ``http`` and
        ``https``.
        """
        signed = self._signed(keys, method, url, headers or {}, body)
        del signed["Host"]
        return signed

    def upgrade(self, keys: Keys, url: URL | str) -> dict[str, str]:
        """Return the headers to add to a websocket's upgrade request.

        Source: Amazon ECS agent 1.105.1, ecs-agent/wsclient: a GET with the hash of an empty body.
        """
        return self.headers(keys, method="GET", url=url)

    def frame(self, keys: Keys, url: URL | str, body: bytes) -> bytes:
        """Return a telemetry frame: a block of signed headers, an empty line, and the body.

        The signed request is a GET of the websocket's URL with the hash of the body. Source: Amazon
        ECS agent 1.105.1, ecs-agent/tcs/client.
        """
        signed = self._signed(keys, "GET", url, {}, body)
        block = "".join(f"{name}: {signed[name]}\r\n" for name in sorted(signed))
        return block.encode() + b"\r\n" + body

    def _signed(
        self, keys: Keys, method: str, url: URL | str, headers: Mapping[str, str], body: bytes
    ) -> dict[str, str]:
        url = _plain(url)
        stamp = self.clock.now().strftime(_STAMP)
        added = {"Host": _host(url), "X-Amz-Date": stamp}
        if keys.session_token:
            added["X-Amz-Security-Token"] = keys.session_token
        if self.service == _S3:
            added["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        request = AWSRequest(method, str(url), headers={**headers, **added}, data=body)
        request.context["timestamp"] = stamp
        # Not with `add_auth`, which uses the host's clock and writes the whole request, including
        # the session token, to the debug log.
        pair: Any = keys  # only attributes are read; botocore's class would load its providers
        kind = S3SigV4Auth if self.service == _S3 else SigV4Auth
        auth = kind(pair, self.service, self.region)
        to_sign = auth.string_to_sign(request, auth.canonical_request(request))
        added["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, "
            f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}, "
            f"Signature={auth.signature(to_sign, request)}"
        )
        return added


def wire_url(base: URL | str, params: Mapping[str, str]) -> URL:
    """Return ``base`` with a query, in the form that is sent and signed.

    Keys are sorted, and all characters except unreserved ones are percent-encoded, a space as
    ``%20``. Existing parameters of ``base`` stay unless ``params`` replaces them. The result is
    marked as encoded, so that aiohttp sends it unchanged.
    """
    base = URL(base)
    pairs = [(key, value) for key, value in base.query.items() if key not in params]
    pairs += params.items()
    encoded = sorted((_encoded(key), _encoded(value)) for key, value in pairs)
    query = "&".join(f"{key}={value}" for key, value in encoded)
    bare = str(base.with_query(None).with_fragment(None))
    return URL(f"{bare}?{query}" if query else bare, encoded=True)


def _encoded(text: str) -> str:
    # A lone surrogate has no UTF-8 form; it is sent as a replacement character.
    return quote(text, safe=_UNRESERVED, errors="replace")


def _plain(url: URL | str) -> URL:
    """Return the URL as http or https, because signers and host rules do not know websockets."""
    url = URL(url) if isinstance(url, str) else url
    scheme = _PLAIN.get(url.scheme)
    # Not with `with_scheme`, which would also keep an explicit port of the encoded URL.
    return url if scheme is None else URL(f"{scheme}{str(url)[len(url.scheme) :]}", encoded=True)


def _host(url: URL) -> str:
    host = url.host_port_subcomponent
    if not host:
        raise ValueError(f"{url} has no host")
    return host
