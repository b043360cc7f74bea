"""The managed policies of AWS that a user or a role can have here. Pure.

They are those that guides for Amazon ECS name. What they allow is known for the services that are served here; a
policy for other services alone allows nothing.

Source: "AWS managed policies" in the Amazon ECS developer guide, AWS Managed Policy Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.authorization.actions.table import OWN

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALLOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "AWSAppMeshEnvoyAccess": (),
    "AWSCloudMapDiscoverInstanceAccess": (
        "servicediscovery:DiscoverInstances",
        "servicediscovery:DiscoverInstancesRevision",
    ),
    "AWSCodeDeployRoleForECS": (),
    "AWSXRayDaemonWriteAccess": (),
    "AdministratorAccess": ("*",),
    "AmazonDynamoDBFullAccess": (),
    "AmazonDynamoDBReadOnlyAccess": (),
    "AmazonEC2ContainerRegistryFullAccess": (),
    "AmazonEC2ContainerRegistryPowerUser": (),
    "AmazonEC2ContainerRegistryReadOnly": (),
    "AmazonECS_FullAccess": (
        "application-autoscaling:*",
        "cloudwatch:DeleteAlarms",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricStatistics",
        "cloudwatch:PutMetricAlarm",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:DeleteSecurityGroup",
        "ec2:Describe*",
        "ecs:*",
        "elasticloadbalancing:CreateListener",
        "elasticloadbalancing:CreateLoadBalancer",
        "elasticloadbalancing:CreateRule",
        "elasticloadbalancing:CreateTargetGroup",
        "elasticloadbalancing:DeleteListener",
        "elasticloadbalancing:DeleteLoadBalancer",
        "elasticloadbalancing:DeleteRule",
        "elasticloadbalancing:DeleteTargetGroup",
        "elasticloadbalancing:Describe*",
        "events:DeleteRule",
        "events:DescribeRule",
        "events:ListRuleNamesByTarget",
        "events:ListTargetsByRule",
        "events:PutRule",
        "events:PutTargets",
        "events:RemoveTargets",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfiles",
        "iam:ListRoles",
        "logs:CreateLogGroup",
        "logs:DescribeLogGroups",
        "logs:FilterLogEvents",
        "servicediscovery:*",
    ),
    "AmazonEventBridgeFullAccess": (
        "events:*",
        "scheduler:*",
    ),
    "AmazonRDSDataFullAccess": (),
    "AmazonS3FullAccess": (),
    "AmazonS3ReadOnlyAccess": (),
    "AmazonSNSFullAccess": (),
    "AmazonSQSFullAccess": (),
    "AmazonSSMFullAccess": (
        "cloudwatch:PutMetricData",
        "logs:*",
        "ssm:*",
    ),
    "AmazonSSMManagedInstanceCore": (
        "ssm:GetParameter",
        "ssm:GetParameters",
    ),
    "AmazonSSMReadOnlyAccess": (
        "ssm:Describe*",
        "ssm:Get*",
        "ssm:List*",
    ),
    "CloudWatchAgentServerPolicy": (
        "cloudwatch:PutMetricData",
        "ec2:DescribeTags",
        "ec2:DescribeVolumes",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "logs:PutRetentionPolicy",
        "ssm:GetParameter",
    ),
    "CloudWatchFullAccess": (
        "cloudwatch:*",
        "logs:*",
    ),
    "CloudWatchFullAccessV2": (
        "cloudwatch:*",
        "logs:*",
    ),
    "CloudWatchLogsFullAccess": (
        "cloudwatch:GenerateQuery",
        "logs:*",
    ),
    "CloudWatchLogsReadOnlyAccess": (
        "logs:Describe*",
        "logs:FilterLogEvents",
        "logs:Get*",
        "logs:List*",
        "logs:StartLiveTail",
        "logs:StartQuery",
        "logs:StopLiveTail",
        "logs:StopQuery",
        "logs:TestMetricFilter",
    ),
    "Path and name of each.": (),
    "ReadOnlyAccess": (
        "application-autoscaling:Describe*",
        "application-autoscaling:ListTagsForResource",
        "cloudtrail:LookupEvents",
        "cloudwatch:Describe*",
        "cloudwatch:Get*",
        "cloudwatch:List*",
        "ec2:Describe*",
        "ecs:Describe*",
        "ecs:List*",
        "elasticloadbalancing:Describe*",
        "events:Describe*",
        "events:List*",
        "iam:Get*",
        "iam:List*",
        "logs:Describe*",
        "logs:FilterLogEvents",
        "logs:Get*",
        "logs:List*",
        "logs:StartLiveTail",
        "scheduler:Get*",
        "scheduler:List*",
        "secretsmanager:DescribeSecret",
        "secretsmanager:ListSecrets",
        "servicediscovery:DiscoverInstances",
        "servicediscovery:Get*",
        "servicediscovery:List*",
        "ssm:Describe*",
        "ssm:Get*",
    ),
    "SecretsManagerReadWrite": ("secretsmanager:*",),
    "service-role/AWSAppRunnerServicePolicyForECRAccess": (),
    "service-role/AmazonEC2ContainerServiceAutoscaleRole": (
        "cloudwatch:DescribeAlarms",
        "cloudwatch:PutMetricAlarm",
        "ecs:DescribeServices",
        "ecs:UpdateService",
    ),
    "service-role/AmazonEC2ContainerServiceEventsRole": ("ecs:RunTask",),
    "service-role/AmazonEC2ContainerServiceRole": (
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:Describe*",
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:Describe*",
        "elasticloadbalancing:RegisterTargets",
    ),
    "service-role/AmazonEC2ContainerServiceforEC2Role": (
        "ec2:DescribeTags",
        "ecs:CreateCluster",
        "ecs:DeregisterContainerInstance",
        "ecs:DiscoverPollEndpoint",
        "ecs:Poll",
        "ecs:RegisterContainerInstance",
        "ecs:StartTelemetrySession",
        "ecs:Submit*",
        "ecs:UpdateContainerInstancesState",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AmazonECSInfrastructureRolePolicyForServiceConnectTransportLayerSecurity": (),
    "service-role/AmazonECSInfrastructureRolePolicyForVolumes": (),
    "service-role/AmazonECSTaskExecutionRolePolicy": (
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
}
"""By path and name of each policy, the actions that it allows of the services that are served here."""
_MORE: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "AmazonECS_FullAccess": (
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": "*",
            "Condition": {"StringLike": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        },
    ),
    "PowerUserAccess": (
        {"Effect": "Allow", "NotAction": ["iam:*", f"{OWN}:*"], "Resource": "*"},
        {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*"},
    ),
    "service-role/AmazonEC2ContainerServiceEventsRole": (
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": "*",
            "Condition": {"StringLike": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        },
    ),
}
"""Statements besides those."""
KNOWN: Final = frozenset(_ALLOWS.keys() | _MORE.keys())
"""Path and name of each."""


def name_of(arn: str, partition: str) -> str | None:
    """Return the name of a managed policy by its ARN, or None if there is none that is known here."""
    path = arn.removeprefix(f"arn:{partition}:iam::aws:policy/")
    return path.rpartition("/")[2] if path in KNOWN else None


def path_of(arn: str) -> str:
    """Return the path of a managed policy, such as ``/service-role/``."""
    return arn.partition(":policy")[2].rpartition("/")[0] + "/"


def document(arn: str) -> str:
    """Return the document of a managed policy that is known here, with what concerns this control endpoint."""
    name = arn.partition(":policy/")[2]
    allowed = _ALLOWS.get(name, ())
    statements: list[Mapping[str, Any]] = list(_MORE.get(name, ()))
    if allowed:
        statements.insert(0, {"Effect": "Allow", "Action": list(allowed), "Resource": "*"})
    # A document has at least one statement; this one allows nothing that there is.
    nothing = {"Effect": "Allow", "Action": "none:none", "Resource": "*"}
    body = {"Version": "2012-10-17", "Statement": statements or [nothing]}
    return msgspec.json.encode(body).decode()
