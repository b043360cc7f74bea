"""What a policy document must be. Pure.

What a user or role may do by a document is decided by it, so it must be one that can be evaluated here.
"""

from __future__ import annotations

from typing import Final

from agent.controlplane.authorization import policy
from agent.controlplane.authorization.actions.table import SERVICES

TRUST_MOST: Final = 2048
INLINE_MOST: Final = 10_240
USER_INLINE_MOST: Final = 2048
"""Characters without white space: of a trust policy, and of all inline policies of a role or user."""


def check_trust(document: str) -> None:
    """Check the document that says who may assume a role; raises ``PolicyInvalid``."""
    policy.compile_trust(document)


def check_permissions(document: str) -> None:
    """Check a document that says what a user or role may do; raises ``PolicyInvalid``."""
    policy.compile_permissions(document, SERVICES)


def length(document: str) -> int:
    """Return the length of a document as quotas count it: without white space."""
    return sum(not character.isspace() for character in document)
