"""Protocols for what this package uses of ``agent.aws``, and pauses between tries. No I/O.

Tests: ``tests/unit/upstream/amazon/test_registration.py``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Protocol

from agent.upstream.backoff import RETRY_AFTER_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Mapping


class Api(Protocol):
    """Calls of one AWS API, such as ``aws.api.JsonApi``."""

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        attempts: int = 3,
        limit_s: float = 42.0,
    ) -> dict[str, Any]:
        """Return the answer of one operation; ``limit_s`` is the time limit of each attempt.

        Raises:
            AwsRefused: AWS refused the request.
            AwsUnavailable: no answer, or one that asks to try again.
            CredentialsMissing: there are no credentials to sign with.
        """


class InstanceMetadata(Protocol):
    """EC2 instance metadata, such as ``aws.imds.Imds``. Paths are below ``/latest/``."""

    @property
    def enabled(self) -> bool:
        """Whether it is used on this host; if not, every call fails at once."""

    async def text(self, path: str) -> str | None:
        """Return the text at a path; None if there is none (404).

        Raises:
            AwsUnavailable: no answer, or an error; ``code`` is the HTTP status.
        """

    async def insist(self, path: str, *, limit_s: float = 30.0) -> str | None:
        """Like ``text``, but retry for up to ``limit_s`` before raising."""


def asked(imds: InstanceMetadata | None) -> InstanceMetadata | None:
    """Return instance metadata if this host uses it, else None."""
    return imds if imds is not None and imds.enabled else None


class BackoffPolicy(Protocol):
    """How long to wait before the next try."""

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds; ``retry_after_s`` is the server's Retry-After."""

    def reset(self) -> None:
        """Start over; call it after a success."""


class SteppedBackoff:
    """Waits that grow from ``first_s`` to ``limit_s``, each lengthened at random.

    Unlike ``upstream.backoff.Backoff`` it never waits less than its step, as Amazon's agent does.
    Source: Amazon ECS agent 1.105.1, ``ecs-agent/utils/retry``.
    """

    def __init__(
        self,
        first_s: float,
        limit_s: float,
        *,
        jitter: float = 0.2,
        factor: float = 2.0,
        dice: random.Random | None = None,
    ) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._jitter = jitter
        self._factor = factor
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, not for security
        self._step_s = first_s

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds, or a longer one if the server asked for it."""
        step_s = self._step_s
        self._step_s = min(step_s * self._factor, self._limit_s)
        asked_s = min(max(retry_after_s, 0.0), RETRY_AFTER_LIMIT_S)
        return max(step_s, asked_s) * self._dice.uniform(1.0, 1.0 + self._jitter)

    def reset(self) -> None:
        """Start over at the first step."""
        self._step_s = self._first_s
