"""Keys of a task's role, as control sends them: a source of keys beside this host's own.

Pure but for waiting. One object per use of a role, on one event loop.

Tests: ``tests/unit/aws/test_role_keys.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.aws.keys import checked
from agent.errors import CredentialsAwaited

if TYPE_CHECKING:
    from agent.aws.keys import Keys
    from agent.model.lookups import AskRole
    from agent.model.payload import Credentials

NEWER_S: Final = 10.0
"""How long newer keys are waited for once AWS has refused some: control may be about to send them."""


class RoleKeys:
    """Implements ``keys.KeySource``."""

    def __init__(self, ask: AskRole) -> None:
        self._ask = ask
        self._given: dict[Keys, Credentials] = {}
        self._refused: Keys | None = None

    async def keys(self) -> Keys:
        """Return keys to sign with.

        Refused ones are given again if no others come in a while: only AWS says what is wrong with
        them.

        Raises:
            CredentialsMissing: control sent keys that cannot be used.
            CredentialsAwaited: control has yet to send them.
        """
        if self._refused is None:
            return self._take(await self._ask(None))
        try:
            async with asyncio.timeout(NEWER_S):
                return self._take(await self._ask(self._given[self._refused]))
        except (TimeoutError, CredentialsAwaited):
            return self._refused

    def refused(self, keys: Keys) -> None:
        """Note that AWS refused these keys."""
        if keys in self._given:
            self._refused = keys

    def _take(self, credentials: Credentials) -> Keys:
        keys = checked(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        )
        self._given = {keys: credentials}
        self._refused = None
        return keys
