"""Who calls, as the audit trail tells it: the ``userIdentity`` of a record. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.front.operators import Caller

if TYPE_CHECKING:
    from agent.controlplane.names import Names

AGENT: Final = "agent"
"""The caller of what an agent does with a token of its own."""


def identity(caller: object, names: Names) -> dict[str, Any]:
    """Return the identity of a caller, which is what ``OperatorSide.check`` has returned, or ``AGENT``.

    A key is a user of its name. The owner of control, by its Unix socket, is root.
    """
    account = {"accountId": names.account}
    if not isinstance(caller, Caller):
        return {"type": "AWSService", "invokedBy": str(caller)}
    if not caller.key_id:
        kind = "Root" if caller.name == "root" else "Unknown"
        known = {"principalId": names.account, "arn": names.root()} if kind == "Root" else {}
        return {"type": kind, **known, **account, "userName": caller.name}
    return {
        "type": "IAMUser",
        "principalId": caller.key_id,
        "arn": f"arn:{names.partition}:iam::{names.account}:user/{caller.name}",
        **account,
        "accessKeyId": caller.key_id,
        "userName": caller.name,
    }
