"""A host that changes between our control endpoint and Amazon ECS, with one process and one state."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import faults
from tests.integration.e2e.conftest import describe, register, run
from tests.support.fleet import Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Fleet]:
    """Our control endpoint, without an agent of its own."""
    directory = tmp_path / "ours"
    directory.mkdir()
    made = Fleet(directory)
    made.control.start()
    made.control.ready()
    yield made
    made.control.stop()


def test_tasks_of_either_control_run_on_and_no_report_stays_in_the_way(
    fresh: Callable[..., Host], ours: Fleet, tmp_path: Path
) -> None:
    host = fresh()
    backend, agent, client = host.backend, host.agent, ours.client()
    amazon = {name: agent.environment.pop(name) for name in ("ECS_BACKEND_HOST", "ECS_EXTERNAL")}
    file = tmp_path / "ecs.config"
    agent.arguments += ["--config", str(file)]

    def use(settings: dict[str, str]) -> None:
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if agent.popen is not None:
            os.kill(agent.pid, signal.SIGHUP)

    def last_status(arn: str) -> Any:
        [task] = describe(client, arn)
        return task["lastStatus"]

    use(ours.way_to_control())
    agent.start()
    ours.agents.append(agent)
    ours.wait_connected()
    [left] = run(client, register(client, host.image, "exec sleep 600"))
    host.tasks.append(left)
    eventually(lambda: last_status(left) == "RUNNING")
    pid = host.pid(left)

    use(amazon)
    host.wait_session()
    backend.fault(
        "SubmitTaskStateChange",
        faults.Refuse("AccessDeniedException"),
        times=-1,
        where=lambda request: request.get("task") == left,
    )
    mine = host.run_task()
    my_pid = host.pid(mine)
    assert host.pid(left) == pid
    os.kill(pid, signal.SIGKILL)
    backend.journal.wait(lambda: backend.reports(left), what="a try to report")
    eventually(lambda: "reports are kept" in host.log())
    assert agent.json("status")["controlError"] == ""
    assert len(backend.reports(left)) == 1

    use(ours.way_to_control())
    eventually(lambda: last_status(left) == "STOPPED", what="control has the report")
    assert host.pid(mine) == my_pid

    use(amazon)
    backend.lives += 1
    host.wait_session(after=1)
    assert len(backend.api.instances) == 1
    assert host.pid(mine) == my_pid
    host.stop_task(mine)
