"""GetMetricData, as boto3, the AWS CLI and Grafana call it, in every protocol."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.controlplane.api.cloudwatch import data
from agent.controlplane.api.cloudwatch.errors import InvalidNextToken
from agent.controlplane.front import pages
from tests.unit.controlplane.api.cloudwatch.conftest import NOW_S, PROTOCOLS, stat

if TYPE_CHECKING:
    from tests.unit.controlplane.api.cloudwatch.conftest import Metrics

SERVICE: Any = {"ClusterName": "main", "ServiceName": "web"}
TIME = {"StartTime": NOW_S - 600, "EndTime": NOW_S}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_metric_in_every_protocol(metrics: Metrics, protocol: str) -> None:
    metrics.protocol = protocol
    answer = await metrics.call(
        "get_metric_data",
        MetricDataQueries=[stat("cpu", "CPUUtilization", **SERVICE) | {"Label": "ä <&>"}],
        StartTime=datetime.fromtimestamp(NOW_S - 150, UTC),
        EndTime=datetime.fromtimestamp(NOW_S, UTC),
    )
    (result,) = answer["MetricDataResults"]
    assert result["Values"] == [90.0, 80.0, 70.0]
    assert result["Timestamps"][0] == datetime.fromtimestamp(NOW_S - 60, UTC)
    assert (result["Id"], result["Label"], result["StatusCode"]) == ("cpu", "ä <&>", "Complete")
    assert answer["Messages"] == []
    assert "NextToken" not in answer
    code, text = await metrics.refused(
        "get_metric_data", MetricDataQueries=[stat("cpu", "CPUUtilization", "p99")], **TIME
    )
    assert code == "ValidationError"
    assert text.startswith("The value p99 for parameter Stat is not supported")
    code, _ = await metrics.refused("put_metric_data", Namespace="mine", MetricData=[])
    assert code in {"UnsupportedOperation", "UnsupportedFeatureException"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Average", [20.0, 70.0]),
        ("Sum", [200.0, 700.0]),
        ("Minimum", [0.0, 50.0]),
        ("Maximum", [45.0, 95.0]),
        ("SampleCount", [10.0, 10.0]),
    ],
)
async def test_statistics_of_longer_periods(
    metrics: Metrics, name: str, values: list[float]
) -> None:
    asked = stat("cpu", "CPUUtilization", name, 300, **SERVICE)
    assert await metrics.values(asked) == {"cpu": values}


async def test_what_is_not_there_is_empty(metrics: Metrics) -> None:
    found = await metrics.values(
        stat("a", "CPUUtilization", ClusterName="other"),
        stat("b", "CPUUtilization", ClusterName="main", Colour="red"),
        stat("c", "NoSuchUtilization", ClusterName="main"),
        stat("d", "CPUUtilization"),
        stat("e", "MemoryUtilization", ClusterName="main"),
    )
    assert found == {name: [] for name in "abcde"}
    later = await metrics.values(stat("a", "CPUUtilization", **SERVICE), EndTime=NOW_S - 590)
    assert later == {"a": [0.0]}


async def test_pages_in_both_directions(metrics: Metrics) -> None:
    queries = [
        stat("a", "CPUUtilization", **SERVICE),
        stat("none", "MemoryUtilization", **SERVICE),
        stat("b", "CPUReservation", ClusterName="main"),
    ]
    for scan in ("TimestampAscending", "TimestampDescending"):
        asked: dict[str, Any] = {"MetricDataQueries": queries, "ScanBy": scan, **TIME}
        whole = await metrics.call("get_metric_data", **asked)
        found: dict[str, list[float]] = {}
        states: list[list[str]] = []
        token: dict[str, str] = {}
        while True:
            page = await metrics.call("get_metric_data", **asked, **token, MaxDatapoints=7)
            assert sum(len(one["Values"]) for one in page["MetricDataResults"]) <= 7
            states.append([one["StatusCode"] for one in page["MetricDataResults"]])
            for one in page["MetricDataResults"]:
                found.setdefault(one["Id"], []).extend(one["Values"])
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        assert found == {one["Id"]: one["Values"] for one in whole["MetricDataResults"]}
        assert states[0] == ["PartialData"]
        assert states[-1] == ["Complete"]
        code, _ = await metrics.refused(
            "get_metric_data", **(asked | {"MetricDataQueries": queries[:1]}), **token
        )
        assert code == "InvalidNextToken"


@pytest.mark.parametrize("place", ["no place", "[]", '["a",1]', "[1,2,3]"])
def test_a_forged_token_is_refused(place: str) -> None:
    """Its digest has no key, so anybody can make one for a place of their own."""
    with pytest.raises(InvalidNextToken):
        data._after({"MaxDatapoints": 7}, pages.token("GetMetricData", {"MaxDatapoints": 7}, place))


async def test_expressions(metrics: Metrics) -> None:
    used = stat("used", "CpuUtilized", ClusterName="main") | {"ReturnData": False}
    reserved = stat("reserved", "CpuReserved", ClusterName="main") | {"ReturnData": False}
    found = await metrics.values(
        {"Id": "share", "Expression": "100 * used / reserved", "Label": "share"},
        {"Id": "total", "Expression": "SUM([used, reserved])"},
        {"Id": "all", "Expression": "MAX(METRICS())"},
        {"Id": "less", "Expression": "-(share - 1)"},
        {"Id": "over", "Expression": "reserved / used"},
        used,
        reserved,
    )
    assert found["share"] == [5.0 * n for n in range(10)]
    assert found["total"] == [200.0 + 10 * n for n in range(10)]
    assert found["all"] == [200.0] * 10
    assert found["less"] == [1 - 5.0 * n for n in range(10)]
    assert len(found["over"]) == 9, "no point where it would divide by zero"


async def test_lists_of_lists_do_not_grow_without_end(metrics: Metrics) -> None:
    used = stat("e0", "CpuUtilized", ClusterName="main")
    lists = [
        {"Id": f"e{n}", "Expression": f"[{','.join([f'e{n - 1}'] * 300)}]", "ReturnData": False}
        for n in range(1, 5)
    ]
    code, text = await metrics.refused("get_metric_data", MetricDataQueries=[used, *lists], **TIME)
    assert (code, "more than 4000000 values" in text) == ("ValidationError", True)


async def test_what_grafana_sends(metrics: Metrics) -> None:
    def search(text: str) -> dict[str, str]:
        return {"Id": "s", "Expression": f"REMOVE_EMPTY(SEARCH('{text}', 'Average', 60))"}

    async def found(text: str, **more: str) -> dict[str, list[float]]:
        answer = await metrics.call(
            "get_metric_data",
            MetricDataQueries=[search(text) | more],
            ScanBy="TimestampAscending",
            LabelOptions={"Timezone": "+0000"},
            StartTime=NOW_S - 60,
            EndTime=NOW_S,
        )
        return {one["Label"]: one["Values"] for one in answer["MetricDataResults"]}

    exact = (
        '{"AWS/ECS","ClusterName","ServiceName"} MetricName="CPUUtilization" "ClusterName"="main"'
    )
    assert await found(exact) == {"main web": [90.0]}
    label = "${LABEL}|&|${PROP('Dim.ServiceName')} ${MAX}"
    assert await found(exact, Label=label) == {"main web|&|web 90": [90.0]}
    several = '{AWS/ECS,ClusterName} MetricName="CPUUtilization" "ClusterName"=("main" OR "x")'
    assert await found(several) == {"main": [45.0]}
    loose = 'Namespace="ECS/ContainerInsights" MetricName="CpuUtilized" "ClusterName"'
    assert set(await found(loose)) == {"main", "main web", "main abc fam"}
    assert await found(f'{exact} :aws.AccountId="000000000000"') == {"main web": [90.0]}
    assert await found(f'{exact} :aws.AccountId="111111111111"') == {}
    code, text = await metrics.refused(
        "get_metric_data", MetricDataQueries=[search("{AWS/ECS,ClusterName} CPU")], **TIME
    )
    assert (code, text[:42]) == ("ValidationError", "The search is not supported from 'CPU' on:")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"Id": "A", "Expression": "1"}, "must begin with a lower-case letter"),
        ({"Id": "a", "Expression": "1"}, "is a number"),
        ({"Id": "a"}, "needs one of MetricStat and Expression"),
        ({"Id": "a", "Expression": "b"}, "names an id that does not exist, or depends on itself"),
        (
            {"Id": "a", "Expression": "a + 1"},
            "names an id that does not exist, or depends on itself",
        ),
        (
            {"Id": "a", "Expression": "ANOMALY_DETECTION_BAND(m1)"},
            "function ANOMALY_DETECTION_BAND",
        ),
        ({"Id": "a", "Expression": "SELECT AVG(x) FROM y"}, "Metrics Insights"),
        ({"Id": "a", "Expression": "(" * 500}, "nested too deeply"),
        ({"Id": "a", "Expression": "a" + "+a" * 511}, "may have 256 signs"),
        ({"Id": "a", "Expression": "1 +"}, "ends too early"),
        ({"Id": "a", "Expression": "'b'"}, "not supported from ''b'' on"),
        ({"Id": "a", "Expression": "SUM([METRICS() + 'b'])"}, "not supported from ''b'' on"),
        ({"Id": "a", "Expression": "1 $ 2"}, "not supported from '$ 2' on"),
        ({"Id": "a", "Expression": "SEARCH('x')"}, "needs a search"),
        ({"Id": "a", "Expression": "SUM(1)"}, "a metric is needed"),
        ({"Id": "a", "Expression": "SEARCH('{AWS/ECS}', 'p50', 60)"}, "p50"),
        (stat("a", "CPUUtilization", period=90), "parameter Period must be"),
        (stat("a", "CPUUtilization") | {"ReturnData": False}, "No query of the request returns"),
        (stat("a", "CPUUtilization") | {"AccountId": "1" * 12}, "AccountId of a"),
        (stat("a", "CPUUtilization") | {"Label": "${FIRST_TIME}"}, "${FIRST_TIME} is not supp"),
    ],
)
async def test_what_is_refused(metrics: Metrics, query: dict[str, Any], text: str) -> None:
    code, message = await metrics.refused("get_metric_data", MetricDataQueries=[query], **TIME)
    assert code == "ValidationError"
    assert text.lower() in message.lower()


async def test_many_signs(metrics: Metrics) -> None:
    used = stat("u", "CpuUtilized", ClusterName="main")
    found = await metrics.values(used, {"Id": "sum", "Expression": "u" + "+u" * 256})
    assert found["sum"] == [257 * value for value in found["u"]]


async def test_limits(metrics: Metrics) -> None:
    one = stat("a", "CPUUtilization")
    for wrong in (
        {"MetricDataQueries": [one, one]},
        {"MetricDataQueries": [one | {"Id": f"a{n}"} for n in range(501)]},
        {"EndTime": NOW_S - 600},
        {"MaxDatapoints": 100_801},
    ):
        code, _ = await metrics.refused(
            "get_metric_data", **({"MetricDataQueries": [one], **TIME} | wrong)
        )
        assert code == "ValidationError"


@pytest.mark.parametrize(
    "wrong",
    [
        {"StartTime": "nan"},
        {"EndTime": "inf"},
        {"EndTime": "1e300"},
        {"StartTime": "-1e300"},
        {"MaxDatapoints": "9" * 50},
        {"MetricDataQueries.member.1.Expression": f"SEARCH('{{AWS/ECS}}', 'Sum', {'9' * 400})"},
        {"MetricDataQueries.member.1.Expression": "9" * 400},
    ],
)
async def test_numbers_that_are_none(metrics: Metrics, wrong: dict[str, str]) -> None:
    asked = {
        "Action": "GetMetricData",
        "Version": "2010-08-01",
        "StartTime": str(NOW_S - 600),
        "EndTime": str(NOW_S),
        "MetricDataQueries.member.1.Id": "a",
        "MetricDataQueries.member.1.Expression": "METRICS()",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(metrics.url, data=asked | wrong) as answer,
    ):
        assert answer.status == 400, await answer.text()
        assert "<Type>Sender</Type>" in await answer.text()
