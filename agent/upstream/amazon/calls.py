"""What this room asks of ``agent.aws``, as shapes; and the pauses between two tries. No I/O.

Tests: ``tests/unit/upstream/amazon/test_registration.py``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Protocol

from agent.upstream.backoff import RETRY_AFTER_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Mapping


class Api(Protocol):
    """Calls of one AWS API; ``aws.api.JsonApi`` is one."""

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        attempts: int = 3,
        limit_s: float = 42.0,
    ) -> dict[str, Any]:
        """Return the answer of one operation; ``limit_s`` is the time of each attempt.

        Raises:
            AwsRefused: AWS understood and refused.
            AwsUnavailable: no answer, or one that says: try again.
            CredentialsMissing: nothing to sign with.
        """


class InstanceMetadata(Protocol):
    """EC2 instance metadata; ``aws.imds.Imds`` is one. Paths are below ``/latest/``."""

    @property
    def enabled(self) -> bool:
        """Whether it is asked at all on this host; where not, every call fails at once."""

    async def text(self, path: str) -> str | None:
        """Return what stands at a path; None where there is nothing (404).

        Raises:
            AwsUnavailable: it did not answer, or not as it should; ``code`` is the HTTP status.
        """

    async def insist(self, path: str, *, limit_s: float = 30.0) -> str | None:
        """Return as ``text`` does, trying again for up to ``limit_s``; raises as it does."""


def asked(imds: InstanceMetadata | None) -> InstanceMetadata | None:
    """Return instance metadata if this host asks it, else None."""
    return imds if imds is not None and imds.enabled else None


class BackoffPolicy(Protocol):
    """How long to wait before the next try."""

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds; ``retry_after_s`` is what the other side asked for."""

    def reset(self) -> None:
        """Begin anew; called when a try has succeeded."""


class SteppedBackoff:
    """Waits that grow from ``first_s`` to ``limit_s``, each lengthened at random.

    Unlike ``upstream.backoff.Backoff`` it never waits less than its step, which is how Amazon's agent
    spaces its calls. Source: Amazon ECS agent 1.105.1, ``ecs-agent/utils/retry``.
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
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._step_s = first_s

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds, longer where the other side asked for it."""
        step_s = self._step_s
        self._step_s = min(step_s * self._factor, self._limit_s)
        asked_s = min(max(retry_after_s, 0.0), RETRY_AFTER_LIMIT_S)
        return max(step_s, asked_s) * self._dice.uniform(1.0, 1.0 + self._jitter)

    def reset(self) -> None:
        """Begin anew at the first step."""
        self._step_s = self._first_s
