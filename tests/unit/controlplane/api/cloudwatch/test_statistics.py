"""GetMetricStatistics and ListMetrics, in every protocol."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.api.cloudwatch import listing
from agent.controlplane.front import pages
from tests.unit.controlplane.api.cloudwatch.conftest import NOW_S, PROTOCOLS

if TYPE_CHECKING:
    from tests.unit.controlplane.api.cloudwatch.conftest import Metrics

CPU: dict[str, Any] = {
    "Namespace": "AWS/ECS",
    "MetricName": "CPUUtilization",
    "Dimensions": [
        {"Name": "ClusterName", "Value": "main"},
        {"Name": "ServiceName", "Value": "web"},
    ],
    "StartTime": NOW_S - 600,
    "EndTime": NOW_S,
    "Period": 300,
    "Statistics": ["Average", "Maximum", "SampleCount"],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_statistics_in_every_protocol(metrics: Metrics, protocol: str) -> None:
    metrics.protocol = protocol
    answer = await metrics.call("get_metric_statistics", **CPU)
    assert answer["Label"] == "CPUUtilization"
    first, second = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    assert first == {
        "Timestamp": datetime.fromtimestamp(NOW_S - 600, UTC),
        "Average": 20.0,
        "Maximum": 45.0,
        "SampleCount": 10.0,
        "Unit": "Percent",
    }
    assert second["Average"] == 70.0
    code, text = await metrics.refused("get_metric_statistics", **(CPU | {"Period": 7}))
    assert (code, text[:20]) == ("InvalidParameterValue", "The parameter Period")


async def test_another_unit_and_a_start_within_a_minute(metrics: Metrics) -> None:
    empty = await metrics.call("get_metric_statistics", **CPU, Unit="Bytes")
    assert empty["Datapoints"] == []
    asked = CPU | {"Unit": "Percent", "StartTime": NOW_S - 100, "Period": 60}
    points = (await metrics.call("get_metric_statistics", **asked))["Datapoints"]
    assert {p["Timestamp"] for p in points} == {
        datetime.fromtimestamp(NOW_S - second, UTC) for second in (120, 60)
    }


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        ({"Statistics": None}, "MissingParameter", "Statistics"),
        ({"ExtendedStatistics": ["p90"]}, "InvalidParameterValue", "p90"),
        ({"EndTime": NOW_S - 700}, "InvalidParameterValue", "StartTime must be less"),
        ({"StartTime": 0, "Period": 60}, "InvalidParameterCombination", "limit of 1440"),
        ({"Dimensions": CPU["Dimensions"] * 2}, "InvalidParameterValue", "more than once"),
    ],
)
async def test_what_is_refused(
    metrics: Metrics, wrong: dict[str, Any], code: str, text: str
) -> None:
    asked = {name: value for name, value in (CPU | wrong).items() if value is not None}
    got, message = await metrics.refused("get_metric_statistics", **asked)
    assert got == code
    assert text in message


def shown(answer: Any) -> set[tuple[str, ...]]:
    return {
        (one["MetricName"], *(f"{d['Name']}={d['Value']}" for d in one["Dimensions"]))
        for one in answer["Metrics"]
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_list_in_every_protocol(metrics: Metrics, protocol: str) -> None:
    metrics.protocol = protocol
    assert shown(await metrics.call("list_metrics", Namespace="AWS/ECS")) == {
        ("CPUUtilization", "ClusterName=main"),
        ("CPUReservation", "ClusterName=main"),
        ("CPUUtilization", "ClusterName=main", "ServiceName=web"),
    }
    found = await metrics.call(
        "list_metrics",
        MetricName="CpuUtilized",
        Dimensions=[{"Name": "TaskId"}, {"Name": "ClusterName", "Value": "main"}],
        RecentlyActive="PT3H",
        IncludeLinkedAccounts=True,
    )
    assert shown(found) == {
        ("CpuUtilized", "ClusterName=main", "TaskId=abc", "TaskDefinitionFamily=fam")
    }
    assert found["OwningAccounts"] == ["000000000000"]
    assert (await metrics.call("list_metrics", Namespace="AWS/EC2"))["Metrics"] == []


async def test_a_list_in_pages(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown(await metrics.call("list_metrics"))
    assert len(whole) == 9
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "_SCOPES", 2)
    found: list[tuple[str, ...]] = []
    token: dict[str, str] = {}
    while True:
        page = await metrics.call("list_metrics", **token)
        found += shown(page)
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert sorted(found) == sorted(whole)
    code, _ = await metrics.refused("list_metrics", Namespace="AWS/ECS", **token)
    assert code == "InvalidParameterValue"
    for place in ("not a place", '["no kind","a","b","c",1]', '["cluster","a","b","c"]'):
        forged = pages.token("ListMetrics", {}, place)
        code, _ = await metrics.refused("list_metrics", NextToken=forged)
        assert code == "InvalidParameterValue", place
