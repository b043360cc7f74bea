"""Good calls with which a fuzzer of APIs begins, so that its later calls meet things that exist. In order.

``{name}`` stands for what an answer said last in a member with this name, or about a thing with this name.
"""

from __future__ import annotations

import json
from typing import Any, Final

_TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": "ecs-tasks.amazonaws.com", "AWS": "*"},
                "Condition": {"StringLike": {"aws:username": ["a*"]}},
            }
        ],
    }
)
_POLICY: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "A",
                "Effect": "Deny",
                "NotAction": ["ecs:*"],
                "Resource": "arn:aws:ecs:*:*:cluster/${aws:username}",
                "Condition": {"NumericLessThan": {"ecs:task-cpu": "256"}, "Bool": {"aws:SecureTransport": "true"}},
            }
        ],
    }
)  # fmt: skip
_TAGS: Final = [{"Key": "team", "Value": "till"}]
_CONTAINER: Final = {
    "name": "a",
    "image": "busybox",
    "memory": 64,
    "portMappings": [{"containerPort": 80, "name": "http"}],
}
_METRIC: Final = {
    "Namespace": "AWS/ECS",
    "MetricName": "CPUUtilization",
    "Dimensions": [{"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}],
}  # fmt: skip
_SCALED: Final = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/default/web",
    "ScalableDimension": "ecs:service:DesiredCount",
}
_RUN: Final = {
    "Arn": "arn:aws:ecs:us-east-1:000000000000:cluster/default",
    "RoleArn": "arn:aws:iam::000000000000:role/web",
    "EcsParameters": {"TaskDefinitionArn": "{taskDefinitionArn}", "TaskCount": 1},
}

FIRST: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("ecs", "CreateCluster", {"clusterName": "default"}),
    ("ecs", "RegisterTaskDefinition", {"family": "web", "containerDefinitions": [_CONTAINER]}),
    ("ecs", "CreateService", {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1}),
    ("ecs", "CreateService", {"serviceName": "b", "deploymentController": {"type": "EXTERNAL"}}),
    ("ecs", "CreateTaskSet", {"cluster": "default", "service": "b", "taskDefinition": "web"}),
    ("ecs", "ListContainerInstances", {}),
    ("ecs", "RunTask", {"taskDefinition": "web", "enableExecuteCommand": True}),
    ("ecs", "DescribeServices", {"services": ["web", "b"]}),
    ("ecs", "ListServiceDeployments", {"service": "web"}),
    ("ec2", "DescribeVpcs", {}),
    ("ec2", "DescribeSubnets", {}),
    ("ec2", "CreateSecurityGroup", {"GroupName": "a", "Description": "a"}),
    (
        "ec2",
        "AuthorizeSecurityGroupIngress",
        {
            "GroupId": "{GroupId}",
            "IpPermissions": [
                {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 90, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
            ],
        },
    ),
    ("elbv2", "CreateLoadBalancer", {"Name": "a", "Subnets": ["any"], "Tags": _TAGS}),
    ("elbv2", "CreateTargetGroup", {"Name": "a", "Protocol": "HTTP", "Port": 80, "TargetType": "ip"}),
    (
        "elbv2",
        "CreateListener",
        {
            "LoadBalancerArn": "{LoadBalancerArn}",
            "Protocol": "HTTP",
            "Port": 80,
            "DefaultActions": [{"Type": "forward", "TargetGroupArn": "{TargetGroupArn}"}],
        },
    ),
    (
        "elbv2",
        "CreateRule",
        {
            "ListenerArn": "{ListenerArn}",
            "Priority": 5,
            "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*"]}}],
            "Actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
        },
    ),
    ("elbv2", "RegisterTargets", {"TargetGroupArn": "{TargetGroupArn}", "Targets": [{"Id": "10.0.0.1"}]}),
    ("iam", "CreateRole", {"RoleName": "web", "AssumeRolePolicyDocument": _TRUST}),
    ("iam", "PutRolePolicy", {"RoleName": "web", "PolicyName": "a", "PolicyDocument": _POLICY}),
    ("iam", "CreateUser", {"UserName": "a"}),
    ("iam", "CreateAccessKey", {"UserName": "a"}),
    ("iam", "PutUserPolicy", {"UserName": "a", "PolicyName": "a", "PolicyDocument": _POLICY}),
    ("sts", "AssumeRole", {"RoleArn": "arn:aws:iam::000000000000:role/web", "RoleSessionName": "me"}),
    ("logs", "CreateLogGroup", {"logGroupName": "/a"}),
    ("logs", "CreateLogStream", {"logGroupName": "/a", "logStreamName": "a"}),
    (
        "logs",
        "PutLogEvents",
        {
            "logGroupName": "/a",
            "logStreamName": "a",
            "logEvents": [{"timestamp": 1_700_000_000_000, "message": '{"a": [1]}'}],
        },
    ),
    ("logs", "FilterLogEvents", {"logGroupName": "/a", "filterPattern": "{ $.a[0] = 1 }"}),
    ("ssm", "PutParameter", {"Name": "/a/b", "Value": "a", "Type": "SecureString"}),
    ("ssm", "GetParametersByPath", {"Path": "/a", "Recursive": True}),
    ("secretsmanager", "CreateSecret", {"Name": "a", "SecretString": "{}"}),
    ("servicediscovery", "CreateHttpNamespace", {"Name": "shop.local"}),
    ("servicediscovery", "ListNamespaces", {}),
    ("servicediscovery", "CreatePrivateDnsNamespace", {"Name": "shop.internal", "Vpc": "vpc-1"}),
    ("servicediscovery", "CreateService", {"Name": "web", "NamespaceId": "{Id}"}),
    (
        "servicediscovery",
        "RegisterInstance",
        {"ServiceId": "{Id}", "InstanceId": "a", "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1"}},
    ),
    ("application-autoscaling", "RegisterScalableTarget", _SCALED | {"MinCapacity": 0, "MaxCapacity": 4}),
    (
        "application-autoscaling",
        "PutScalingPolicy",
        _SCALED
        | {
            "PolicyName": "a",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 50.0,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            },
        },
    ),
    (
        "application-autoscaling",
        "PutScheduledAction",
        _SCALED
        | {"ScheduledActionName": "a", "Schedule": "rate(1 hour)", "ScalableTargetAction": {"MinCapacity": 1}},
    ),
    (
        "cloudwatch",
        "PutMetricAlarm",
        _METRIC
        | {
            "AlarmName": "a",
            "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1,
            "Period": 60,
            "Statistic": "Average",
            "Threshold": 1.0,
        },
    ),
    (
        "cloudwatch",
        "GetMetricData",
        {
            "StartTime": 1_700_000_000,
            "EndTime": 1_700_000_600,
            "MetricDataQueries": [
                {"Id": "m1", "MetricStat": {"Metric": _METRIC, "Period": 60, "Stat": "Average"}},
                {"Id": "e1", "Expression": "m1 * 100 / (m1 + 1)"},
                {"Id": "e2", "Expression": "SEARCH('{AWS/ECS,ClusterName} MetricName=\"CPUUtilization\"', 'Sum', 60)"},
            ],
        },
    ),
    (
        "scheduler",
        "CreateSchedule",
        {
            "Name": "a",
            "ScheduleExpression": "cron(0 0 ? * MON *)",
            "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
            "Target": _RUN,
        },
    ),
    ("events", "PutRule", {"Name": "a", "ScheduleExpression": "rate(5 minutes)"}),
    ("events", "PutTargets", {"Rule": "a", "Targets": [{"Id": "a"} | _RUN]}),
]  # fmt: skip
