"""What preparations work with, with harmless defaults for what a test does not care about."""

from __future__ import annotations

from typing import Any

from agent.awslogs.grants import LogGrants, RelayAddress
from agent.cgroups.groups import TaskGroups
from agent.engine.preparations.contract import HostAccess
from agent.resources.role_credentials import RoleCredentials
from tests.support.memory_engine import MemoryEngine
from tests.support.task_aws import FakeAws, FakeControl

GRANTS = LogGrants(b"secret of the tests")
RELAY = RelayAddress(GRANTS, 51681)


def host_access(**parts: Any) -> HostAccess:
    """Return them; ``parts`` are members of ``HostAccess``."""
    values: dict[str, Any] = {
        "runtime": MemoryEngine(),
        "owner": "owner-1",
        "groups": TaskGroups.off(),
        "credentials": RoleCredentials(),
        "aws": FakeAws(),
        "control_secrets": FakeControl().secrets,
        "log_relay": RELAY,
    }
    return HostAccess(**(values | parts))
