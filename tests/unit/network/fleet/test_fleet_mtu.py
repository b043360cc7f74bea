"""The MTU of tasks, which must fit into the tunnels to other hosts."""

from __future__ import annotations

import pytest

from agent.errors import NetworkFailure
from agent.network.fleet.fleet import refuse_mtu


def test_an_mtu_of_tasks_that_does_not_fit_is_refused_by_its_name() -> None:
    with pytest.raises(NetworkFailure, match=r"ECS_TASK_MTU=1421 .* 1420 bytes"):
        refuse_mtu(1421, 1420)
    for fits in (0, 576, 1420):
        refuse_mtu(fits, 1420)
