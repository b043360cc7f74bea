"""Calls to a JSON 1.1 service of AWS, such as the ECS API.

Uses the network. Raises only ``AwsRefused``, ``AwsUnavailable`` or ``CredentialsMissing``, whatever
the server does. Several tasks may use it at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.aws.exchange import ATTEMPT_S, ATTEMPTS, AwsCall, Exchange
from agent.aws.faults import decoded, json_fault

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from yarl import URL

    from agent.aws.http import AwsHttp
    from agent.aws.keys import KeySource
    from agent.aws.signing import Signer

ECS_TARGET: Final = "AmazonEC2ContainerServiceV20141113"
_encode = msgspec.json.Encoder().encode


class JsonApi:
    """A JSON 1.1 service at one endpoint."""

    def __init__(
        self,
        http: AwsHttp,
        chain: KeySource,
        signer: Signer,
        endpoint: URL,
        target: str = ECS_TARGET,
        *,
        first_wait_s: float = 1.0,
        dice: random.Random | None = None,
    ) -> None:
        """``first_wait_s`` is the longest wait after the first failure; it doubles each time."""
        self.endpoint = endpoint
        self._target = target
        self._exchange = Exchange(
            http, chain, signer, endpoint, first_wait_s=first_wait_s, dice=dice
        )

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        attempts: int = ATTEMPTS,
        limit_s: float = ATTEMPT_S,
    ) -> dict[str, Any]:
        """Make one call and return the fields of its answer.

        Omit unset fields from the request. ``limit_s`` applies to each attempt. Transient errors
        are retried, up to ``attempts`` attempts with waits in between. Callers with their own retry
        loop pass 1.

        Raises:
            AwsRefused: AWS answered with an error that a retry would get again; see ``.code``.
            AwsUnavailable: no answer, an answer that is not a JSON object, or a transient error.
            CredentialsMissing: there are no credentials to sign with.
        """
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{self._target}.{operation}",
        }
        answer: dict[str, Any] = await self._exchange.make(
            AwsCall(
                what=operation,
                headers=headers,
                body=_encoded(request),
                attempts=attempts,
                limit_s=limit_s,
                read=_fields,
                judge=json_fault,
            )
        )
        return answer


def _encoded(request: Mapping[str, Any]) -> bytes:
    try:
        return _encode(request)
    except UnicodeEncodeError:
        # File names and the like may contain bytes that are not text.
        return _encode(_as_text(request))


def _as_text(value: Any) -> Any:
    """Return a request value with every string in it made encodable."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return value


def _fields(body: bytes) -> dict[str, Any]:
    # An operation without results may have an empty answer.
    fields = decoded(body) if body.strip() else {}
    if fields is None:
        raise ValueError("the answer is not a JSON object")
    return fields
