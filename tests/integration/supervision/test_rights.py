"""The rights that the unit leaves to the agent are enough for all that it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, register, run
from tests.support.fleet import Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
UNIT = Path(__file__).parents[3] / "systemd" / "ecs-agent.service"
FAST = {"Delay": 0.2, "MaxAttempts": 300}


def _setpriv() -> list[str]:
    """Return a command that takes away what the unit takes away, as far as one process can."""
    listed = re.search(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), flags=re.MULTILINE)
    assert listed is not None
    kept = ",".join(f"+{word.removeprefix('CAP_').lower()}" for word in listed[1].split())
    return ["setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}", "--"]


@pytest.fixture
def bound_host(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    del leak_check
    made = Fleet(tmp_path, extra={"ECS_POLLING_METRICS_WAIT_DURATION": "1s"})
    made.add_agent().wrapper = _setpriv()
    try:
        made.start()
        yield made
    finally:
        made.end()


def test_networks_figures_and_stops_need_no_more(bound_host: Fleet, busybox_image: str) -> None:
    client, agent = bound_host.client(), bound_host.agents[0]
    status = Path(f"/proc/{agent.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s+1$", status, flags=re.MULTILINE)
    assert not re.search(r"^CapEff:\s+0*1ff", status, flags=re.MULTILINE), "everything is allowed"

    # Processes of another user, and one with rights that the agent has not.
    other_user = register(
        client, busybox_image, "sleep 1000", mode="awsvpc", containers=[{"user": "65534"}]
    )
    mighty = register(client, busybox_image, "sleep 1000")
    arns = run(client, other_user, networkConfiguration=NETWORK) + run(client, mighty)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)

    def sample(arn: str) -> Any:
        view = next(t for t in agent.json("tasks") if t["arn"] == arn)
        return view.get("sample") or {}

    eventually(lambda: all(sample(arn).get("containers") for arn in arns), what="figures")
    for arn in arns:
        (container,) = sample(arn)["containers"]
        assert container["memoryBytes"] > 0
    assert "network" in sample(arns[0])
    assert agent.json("status").get("degraded", []) == []
    for line in agent.log.read_text().splitlines():
        assert '"level": "error"' not in line, line
