"""Who calls, as the audit trail tells it: the ``userIdentity`` of a record. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.authorization.caller import AGENT, ROLE

if TYPE_CHECKING:
    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.names import Names


def identity(caller: Caller, names: Names) -> dict[str, Any]:
    """Return the identity of a caller; it has nothing secret.

    Keys of the file of keys, and the owner of control, are root, with the name of the key.
    """
    if caller.type == AGENT:
        return {"type": "AWSService", "invokedBy": "agent"}
    made: dict[str, Any] = {
        "type": caller.type,
        "principalId": caller.user_id or names.account,
        "arn": caller.arn,
        "accountId": names.account,
    }
    if caller.key_id:
        made["accessKeyId"] = caller.key_id
    if caller.type == ROLE:
        issuer = {
            "type": "Role",
            "principalId": caller.user_id.partition(":")[0],
            "arn": caller.role_arn,
            "accountId": names.account,
            "userName": caller.role_arn.rpartition("/")[2],
        }
        return made | {"sessionContext": {"sessionIssuer": issuer}}
    return made | {"userName": caller.name}
