"""What the policies of a caller say of an action on a resource. Pure, but for what it remembers.

An explicit Deny wins over every Allow; what no statement allows is denied. A session may have a policy that
limits it: then both must allow. The statements about an action are found once, and so are decisions that
depend on nothing but action and resource.

Source: "Policy evaluation logic" in the IAM user guide.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.authorization.policy import Statement

    Values = Mapping[str, tuple[str, ...]]

_REMEMBERED: Final = 1000
"""Decisions that are remembered; then all are forgotten."""


class Decision(Enum):
    """What was decided; the value is how AWS's text of a refusal ends, with the action to fill in."""

    ALLOWED = ""
    NOT_ALLOWED = "because no identity-based policy allows the {action} action"
    DENIED = "with an explicit deny in an identity-based policy"
    NOT_IN_SESSION = "because no session policy allows the {action} action"
    DENIED_IN_SESSION = "with an explicit deny in a session policy"


class Grants:
    """All policies of one user or role."""

    def __init__(
        self, statements: Sequence[Statement], session: Sequence[Statement] | None = None
    ) -> None:
        """Take compiled statements; ``session`` are those that limit a session, None if nothing does."""
        self._statements = tuple(statements)
        self._session = None if session is None else tuple(session)
        self._about: dict[str, tuple[list[Statement], list[Statement], frozenset[str]]] = {}
        self._decided: dict[tuple[str, str], Decision] = {}

    def renewed(self, statements: Sequence[Statement]) -> Grants:
        """Return the same with other policies of the user or role, in the same session."""
        return Grants(statements, self._session)

    def keys(self, action: str) -> frozenset[str]:
        """Return the keys whose values ``decide`` needs for an action, in lower case."""
        return self._of(action)[2]

    def decide(self, action: str, resource: str, values: Values) -> Decision:
        """Return whether an action on a resource is allowed.

        Args:
            action: such as ``ecs:RunTask``.
            resource: an ARN, or ``*`` for an action on no resource.
            values: of the keys, in lower case; those that are missing have no value.
        """
        own, session, keys = self._of(action)
        if keys:
            return self._decide(own, session, resource, values)
        known = self._decided.get((action, resource))
        if known is None:
            known = self._decide(own, session, resource, values)
            if len(self._decided) >= _REMEMBERED:
                self._decided.clear()
            self._decided[action, resource] = known
        return known

    def decide_service(self, service: str) -> Decision:
        """Return whether every call of a service that is not served here is allowed.

        Nothing is known of its actions and resources. So what is allowed or denied in part is denied.

        Args:
            service: the prefix of its actions, such as ``s3``.
        """
        found = _verdict_of_service(
            self._statements, service, Decision.DENIED, Decision.NOT_ALLOWED
        )
        if found is not Decision.ALLOWED or self._session is None:
            return found
        return _verdict_of_service(
            self._session, service, Decision.DENIED_IN_SESSION, Decision.NOT_IN_SESSION
        )

    def _decide(
        self, own: list[Statement], session: list[Statement], resource: str, values: Values
    ) -> Decision:
        found = _verdict(own, resource, values, Decision.DENIED, Decision.NOT_ALLOWED)
        if found is not Decision.ALLOWED or self._session is None:
            return found
        return _verdict(
            session, resource, values, Decision.DENIED_IN_SESSION, Decision.NOT_IN_SESSION
        )

    def _of(self, action: str) -> tuple[list[Statement], list[Statement], frozenset[str]]:
        found = self._about.get(action)
        if found is None:
            own = [each for each in self._statements if each.is_about(action)]
            session = [each for each in self._session or () if each.is_about(action)]
            keys = frozenset(key for each in (*own, *session) for key in each.keys)
            found = self._about[action] = (own, session, keys)
        return found


def _verdict(
    statements: list[Statement],
    resource: str,
    values: Values,
    denied: Decision,
    otherwise: Decision,
) -> Decision:
    applying = [each.allows for each in statements if each.applies(resource, values)]
    if not all(applying):
        return denied
    return Decision.ALLOWED if applying else otherwise


def _verdict_of_service(
    statements: Sequence[Statement], service: str, denied: Decision, otherwise: Decision
) -> Decision:
    if any(not each.allows and each.concerns(service) for each in statements):
        return denied
    allowed = any(each.allows_all_of(service) for each in statements)
    return Decision.ALLOWED if allowed else otherwise
