"""Steps touch the host and leave the record to its runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.cgroups.groups import TaskGroups
from agent.engine.live import NETWORK, LiveState, Step, StepKind
from agent.engine.network_reconnect import NetworkReconnect
from agent.engine.steps import Steps
from agent.engine.tools import StepSettings, StepTools
from agent.images import ExecutionRole, Obtained, Progress
from agent.model import task
from agent.model.payload import PortMapping, Volume
from agent.network.names.hosts_files import HostsFiles
from agent.network.names.resolv_files import ResolvFiles
from agent.resources.role_credentials import RoleCredentials
from tests.support.host_access import RELAY, container_sandboxes, holders
from tests.support.memory_engine import MemoryEngine
from tests.support.task_aws import FakeAws, FakeControl
from tests.support.task_host import OWNER, Networks, Ports
from tests.support.tasks import NOW, container, new_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.engine.tools import EnsureImage, Outcome
    from agent.model.payload import Container
    from agent.model.task import AgentTask

VOLUMES = "@volumes"


class TurnTaker:
    """A runner that writes only when it is asked to, and sees whether somebody else has written."""

    def __init__(self, record: AgentTask) -> None:
        self._record = record
        self._as_written = task.encode(record)
        self._posted: list[Outcome] = []

    def post(self, message: Outcome) -> None:
        self._posted.append(message)

    async def saved(self) -> None:
        self.take_turn()

    def take_turn(self, *more: Outcome) -> None:
        assert task.encode(self._record) == self._as_written, "somebody else changed the record"
        posted, self._posted = [*self._posted, *more], []
        for message in posted:
            message(NOW)
        self._as_written = task.encode(self._record)


async def _image(
    container: Container,
    *,
    role: ExecutionRole,
    on_progress: Callable[[Progress], None] | None = None,
) -> Obtained:
    assert on_progress is not None
    on_progress(Progress("Downloading", "CannotPullContainerError: no", 1.0))
    on_progress(Progress("Downloading"))
    return Obtained(f"sha256:{container.image}")


def _tools(runtime: MemoryEngine, tmp_path: Path, ensure_image: EnsureImage) -> StepTools:
    networks = Networks()
    return StepTools(
        runtime=runtime,
        claim_network=networks.claim,
        release_network=networks.release,
        network_alive=networks.is_alive,
        container_sandboxes=container_sandboxes(runtime),
        ensure_image=ensure_image,
        ports=Ports(),
        resolv_files=ResolvFiles(tmp_path / "resolv"),
        hosts_files=HostsFiles(tmp_path / "hosts"),
        reconnecter=NetworkReconnect(runtime),
        groups=TaskGroups.off(),
        namespaces=holders(runtime),
        role_credentials=RoleCredentials(),
        aws=FakeAws(),
        control_secrets=FakeControl().secrets,
        log_relay=RELAY,
        endpoint_variables=lambda _arn, _name: {},
    )


@pytest.mark.parametrize("mode", ["bridge", "awsvpc"])
async def test_only_the_runner_writes_into_the_record(mode: str, tmp_path: Path) -> None:
    record = new_record(
        container("a", port_mappings=[PortMapping(container_port=80)]),
        network_mode=mode,
        volumes=[Volume(name="v")],
    )
    runner = TurnTaker(record)
    tools = _tools(MemoryEngine(), tmp_path, _image)
    steps = Steps(record, LiveState(), tools, StepSettings(cluster="default", owner=OWNER), runner)
    for kind, key in (
        *([(StepKind.CLAIM_NETWORK, NETWORK)] if mode == "awsvpc" else []),
        (StepKind.PREPARE, VOLUMES),
        (StepKind.PULL, "a"),
        (StepKind.CREATE, "a"),
        (StepKind.START, "a"),
        (StepKind.INSPECT, "a"),
        (StepKind.STOP, "a"),
    ):
        outcome = await steps.do(Step(kind, key))
        runner.take_turn(outcome)
    assert record.containers["a"].known.wire() == "STOPPED"
    assert bool(record.host_ports) == (mode == "bridge")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sets", [True, False])
async def test_the_engine_is_asked_for_an_image_only_if_nobody_has_seen_it(
    known: bool, sets: bool, tmp_path: Path
) -> None:
    variables = frozenset({"AWS_REGION"} if sets else ())
    runtime = MemoryEngine()
    runtime.image_variables["busybox"] = variables

    async def pulled(*_: object, **__: object) -> Obtained:
        return Obtained("sha256:1", variables=variables if known else None)

    record = new_record(container("a", image="busybox"))
    runner = TurnTaker(record)
    steps = Steps(
        record,
        LiveState(),
        _tools(runtime, tmp_path, pulled),
        StepSettings(cluster="default", owner=OWNER),
        runner,
    )
    for kind in (StepKind.PULL, StepKind.CREATE):
        runner.take_turn(await steps.do(Step(kind, "a")))

    (made,) = runtime.boxes.values()
    region = [pair for pair in made.body["Env"] if pair.startswith("AWS_REGION=")]
    assert bool(region) is not sets
    asked = [operation for operation, _ in runtime.calls if operation == "inspect image"]
    assert len(asked) == (0 if known else 1)
