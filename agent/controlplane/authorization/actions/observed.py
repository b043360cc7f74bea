"""Permissions of CloudWatch Logs, CloudWatch and CloudTrail. Pure.

A log group is checked as ``...:log-group:NAME:log-stream:``, as AWS does: a policy names it with ``:*`` behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.actions.rows import Asked, Resource, Row, given, listed, named

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUP_MEMBERS: Final = (
    "logGroupName",
    "logGroupIdentifier",
    "logGroupIdentifiers",
    "logGroupNames",
    "resourceArn",
)


def _groups(asked: Asked) -> list[Resource]:
    return [_group(asked, text) for text in _names(asked)]


def _streams(asked: Asked) -> list[Resource]:
    stream = asked.members.get("logStreamName", "")
    return [f"{_group(asked, text)}{stream}" for text in _names(asked)]


def _all_groups(asked: Asked) -> list[Resource]:
    return [_group(asked, "")]


def _names(asked: Asked) -> list[str]:
    return [text for member in _GROUP_MEMBERS for text in listed(asked.members.get(member))]


def _group(asked: Asked, text: str) -> str:
    arn = text if text.startswith("arn:") else asked.arn("logs", f"log-group:{text}")
    return f"{arn.removesuffix(':*')}:log-stream:"


_OF_GROUPS: Final = (
    "CreateLogGroup",
    "DeleteLogGroup",
    "DeleteMetricFilter",
    "DeleteRetentionPolicy",
    "DescribeLogStreams",
    "FilterLogEvents",
    "ListTagsForResource",
    "ListTagsLogGroup",
    "PutRetentionPolicy",
    "StartLiveTail",
    "TagLogGroup",
    "TagResource",
    "UntagLogGroup",
    "UntagResource",
)
_OF_STREAMS: Final = ("CreateLogStream", "DeleteLogStream", "GetLogEvents", "PutLogEvents")

LOGS: Final[Mapping[str, Row]] = {
    **{name: Row(f"logs:{name}", _groups) for name in _OF_GROUPS},
    **{name: Row(f"logs:{name}", _streams) for name in _OF_STREAMS},
    "DescribeLogGroups": Row("logs:DescribeLogGroups", _all_groups),
}


def _alarms(asked: Asked) -> list[Resource]:
    found = named("cloudwatch", "alarm:", "AlarmNames")(asked)
    return found or [asked.arn("cloudwatch", "alarm:*")]


CLOUDTRAIL: Final[Mapping[str, Row]] = {"LookupEvents": Row("cloudtrail:LookupEvents")}

CLOUDWATCH: Final[Mapping[str, Row]] = {
    "DeleteAlarms": Row("cloudwatch:DeleteAlarms", _alarms),
    "DescribeAlarms": Row("cloudwatch:DescribeAlarms", _alarms),
    "GetMetricData": Row("cloudwatch:GetMetricData"),
    "GetMetricStatistics": Row("cloudwatch:GetMetricStatistics"),
    "ListMetrics": Row("cloudwatch:ListMetrics"),
    "ListTagsForResource": Row("cloudwatch:ListTagsForResource", given("ResourceARN")),
    "PutMetricAlarm": Row("cloudwatch:PutMetricAlarm", named("cloudwatch", "alarm:", "AlarmName")),
    "SetAlarmState": Row("cloudwatch:SetAlarmState", named("cloudwatch", "alarm:", "AlarmName")),
    "TagResource": Row("cloudwatch:TagResource", given("ResourceARN")),
    "UntagResource": Row("cloudwatch:UntagResource", given("ResourceARN")),
}
