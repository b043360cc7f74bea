"""A busy service is scaled out and in by the CPU that its real containers use, on two hosts of both wires.

The containers burn their CPU while a file is there, and are held to an eighth of a core each. Target tracking takes its
time as on AWS, 20 minutes for out and in, so that is only tried if ``ECS_TEST_FULL_LENGTH`` is set. Step scaling by
alarms of one minute goes the same way, from the same figures to the same decision, in three.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, nothing_left, register
from tests.support.fleet import ACS, Fleet, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

pytestmark = pytest.mark.integration

CPU_UNITS = 128
"""Of each task, as reservation and as limit."""
WORK = """
trap 'exit 0' TERM
while :; do
  i=0
  if [ -e /load/on ]; then while [ $i -lt 5000 ]; do i=$((i + 1)); done; else sleep 1; fi
done
"""
MOST = 3
NAMESPACE = "AWS/ECS"
SCALED: dict[str, Any] = {
    "ServiceNamespace": "ecs",
    "ScalableDimension": "ecs:service:DesiredCount",
}
QUIET = 5.0
"""Per cent of its reservation: more than a container uses that is not busy, and less than one that is."""
STARTED_S = 60.0
"""Within that a change of the desired count has been fulfilled."""

_log = logging.getLogger("autoscaling")


@dataclass
class Service:
    """A service whose containers are busy while ``switch`` exists."""

    fleet: Fleet
    name: str
    switch: Path
    counts: list[int] = field(default_factory=list)
    """The desired counts that it had, without repetitions."""

    @property
    def resource_id(self) -> str:
        return f"service/default/{self.name}"

    @property
    def dimensions(self) -> list[dict[str, str]]:
        return [
            {"Name": "ClusterName", "Value": "default"},
            {"Name": "ServiceName", "Value": self.name},
        ]

    def look(self) -> dict[str, Any]:
        (service,) = self.fleet.client().describe_services(services=[self.name])["services"]
        if self.counts[-1:] != [service["desiredCount"]]:
            self.counts.append(service["desiredCount"])
        return dict(service)

    def wait(self, count: int, *, within_s: float) -> float:
        """Wait until a number of tasks is wanted; return when that was, and then until they run."""

        def is_wanted() -> bool:
            time.sleep(0.5)
            return bool(self.look()["desiredCount"] == count)

        def is_running() -> bool:
            service = self.look()
            return bool(service["runningCount"] == count == service["desiredCount"])

        eventually(
            is_wanted,
            within_s=within_s,
            what=f"{count} tasks are wanted",
            shown=lambda: (self.counts, self.percentages()),
        )
        at = time.monotonic()
        eventually(is_running, within_s=STARTED_S, what=f"{count} tasks run")
        return at

    def tasks(self, status: str = "RUNNING") -> list[dict[str, Any]]:
        client = self.fleet.client()
        arns = client.list_tasks(serviceName=self.name, desiredStatus=status)["taskArns"]
        return describe(client, *arns)

    def percentages(self) -> list[float]:
        """Return the CPU utilization of each minute so far, as CloudWatch's API shows it."""
        now = time.time()
        found = self.fleet.client("cloudwatch").get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName="CPUUtilization",
            Dimensions=self.dimensions,
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=60,
            Statistics=["Average"],
        )
        points = sorted(found["Datapoints"], key=lambda point: point["Timestamp"])
        return [round(point["Average"], 1) for point in points]

    def activities(self) -> list[dict[str, Any]]:
        """Return what was done, the newest first."""
        answer = self.fleet.client("application-autoscaling").describe_scaling_activities(
            ServiceNamespace="ecs", ResourceId=self.resource_id
        )
        return list(answer["ScalingActivities"])

    def put_policy(self, name: str, **policy: Any) -> dict[str, Any]:
        answer = self.fleet.client("application-autoscaling").put_scaling_policy(
            **SCALED, ResourceId=self.resource_id, PolicyName=name, **policy
        )
        return dict(answer)

    def end(self) -> None:
        self.switch.unlink(missing_ok=True)
        client = self.fleet.client()
        client.delete_service(service=self.name, force=True)
        for agent in self.fleet.agents:
            eventually(agent.has_no_tasks, what=f"{agent.name} is empty")


@pytest.fixture(scope="module")
def two_wires(sdk: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A control endpoint with an agent on each wire."""
    del sdk
    directory = tmp_path_factory.mktemp("scaled")
    with nothing_left(directory), fleet(directory) as made:
        made.wire = ACS
        made.add_agent().start()
        made.wait_connected()
        yield made


@pytest.fixture
def service(
    two_wires: Fleet, busybox_image: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Service]:
    """A service of one task, which may be scaled to three."""
    name = request.node.name.rpartition("_")[2]
    definition = register(
        two_wires.client(),
        busybox_image,
        WORK,
        cpu=str(CPU_UNITS),
        memory="32",
        volumes=[{"name": "load", "host": {"sourcePath": str(tmp_path)}}],
        containers=[
            {
                "cpu": CPU_UNITS,
                "mountPoints": [
                    {"sourceVolume": "load", "containerPath": "/load", "readOnly": True}
                ],
            }
        ],
    )
    two_wires.client().create_service(
        serviceName=name,
        taskDefinition=definition,
        desiredCount=1,
        placementStrategy=[{"type": "spread", "field": "instanceId"}],
    )
    two_wires.client("application-autoscaling").register_scalable_target(
        **SCALED, ResourceId=f"service/default/{name}", MinCapacity=1, MaxCapacity=MOST
    )
    made = Service(two_wires, name, tmp_path / "on")
    made.wait(1, within_s=STARTED_S)
    yield made
    made.end()


def scaled_in(service: Service) -> list[dict[str, Any]]:
    """Return the tasks that were stopped, which must be for that."""
    stopped = service.tasks("STOPPED")
    for task in stopped:
        assert task["stopCode"] == "ServiceSchedulerInitiated", task
        assert task["stoppedReason"].startswith(
            "Scaling activity initiated by (deployment ecs-svc/"
        )
    return stopped


@pytest.mark.timeout(900)
def test_alarms_of_one_minute_scale_out_and_in_by_steps(service: Service) -> None:
    cloudwatch = service.fleet.client("cloudwatch")

    def scale(way: str, comparison: str, **adjustment: Any) -> None:
        """Have a step scaling policy started by an alarm."""
        policy = service.put_policy(
            way,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [adjustment],
                "Cooldown": 0,
            },
        )
        cloudwatch.put_metric_alarm(
            AlarmName=f"{service.name}-{way}",
            Namespace=NAMESPACE,
            MetricName="CPUUtilization",
            Dimensions=service.dimensions,
            Statistic="Average",
            Period=60,
            EvaluationPeriods=1,
            Threshold=QUIET,
            ComparisonOperator=comparison,
            AlarmActions=[policy["PolicyARN"]],
        )

    scale(
        "out",
        "GreaterThanThreshold",
        MetricIntervalLowerBound=0,
        ScalingAdjustment=MOST - 1,
    )
    service.switch.touch()
    service.wait(MOST, within_s=240)
    assert len({task["containerInstanceArn"] for task in service.tasks()}) == 2

    scale(
        "in",
        "LessThanThreshold",
        MetricIntervalUpperBound=0,
        ScalingAdjustment=1 - MOST,
    )
    service.switch.unlink()
    service.wait(1, within_s=240)
    assert service.counts == [1, MOST, 1], service.percentages()
    assert len(scaled_in(service)) == MOST - 1
    into, out = service.activities()
    assert (out["Description"], into["Description"]) == (
        "Setting desired count to 3.",
        "Setting desired count to 1.",
    )
    for activity, way in ((out, "out"), (into, "in")):
        cause = f"monitor alarm {service.name}-{way} in state ALARM triggered policy {way}"
        assert activity["Cause"] == cause


@pytest.mark.skipif(
    not os.environ.get("ECS_TEST_FULL_LENGTH"), reason="20 minutes: set ECS_TEST_FULL_LENGTH"
)
@pytest.mark.timeout(3600)
def test_target_tracking_scales_out_and_in(service: Service) -> None:
    target = 40.0
    policy = service.put_policy(
        "cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": target,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "ECSServiceAverageCPUUtilization"
            },
        },
    )
    low, high = sorted((one["AlarmName"] for one in policy["Alarms"]), key=lambda n: "High" in n)

    service.switch.touch()
    busy = time.monotonic()
    took_out = service.wait(MOST, within_s=600) - busy
    percentages_out = service.percentages()
    assert len({task["containerInstanceArn"] for task in service.tasks()}) == 2

    service.switch.unlink()
    quiet = time.monotonic()
    took_in = service.wait(1, within_s=1800) - quiet
    report = (
        f"out after {took_out:.0f} s, in after {took_in:.0f} s, counts {service.counts}; per cent: "
        f"{percentages_out} until it was scaled out, {service.percentages()} in all"
    )
    _log.info(report)

    assert service.counts == [1, MOST, 1], report
    # Three minutes of which the first may have begun before the load, and fifteen.
    assert took_out >= 120, report
    assert 14 * 60 <= took_in <= 18 * 60, report
    assert len(scaled_in(service)) == MOST - 1

    def have_ended() -> Any:
        time.sleep(1)
        done = service.activities()
        return done if all(one["StatusCode"] == "Successful" for one in done) else None

    into, out = eventually(have_ended, within_s=150, what="both activities have ended")
    assert out["Cause"] == f"monitor alarm {high} in state ALARM triggered policy cpu"
    assert into["Cause"] == f"monitor alarm {low} in state ALARM triggered policy cpu"
    assert into["Description"] == "Setting desired count to 1."
    assert into["StatusMessage"] == (
        "Successfully set desired count to 1. Change successfully fulfilled by ecs."
    )
