"""The managed policies of AWS that a role can have here. Pure.

They are those that guides for Amazon ECS name. Only names are known, not documents.

Source: "AWS managed policies" in the Amazon ECS developer guide, AWS Managed Policy Reference.
"""

from __future__ import annotations

from typing import Final

KNOWN: Final = frozenset(
    {
        "AWSAppMeshEnvoyAccess",
        "AWSCloudMapDiscoverInstanceAccess",
        "AWSCodeDeployRoleForECS",
        "AWSXRayDaemonWriteAccess",
        "AdministratorAccess",
        "AmazonDynamoDBFullAccess",
        "AmazonDynamoDBReadOnlyAccess",
        "AmazonEC2ContainerRegistryFullAccess",
        "AmazonEC2ContainerRegistryPowerUser",
        "AmazonEC2ContainerRegistryReadOnly",
        "AmazonECS_FullAccess",
        "AmazonEventBridgeFullAccess",
        "AmazonRDSDataFullAccess",
        "AmazonS3FullAccess",
        "AmazonS3ReadOnlyAccess",
        "AmazonSNSFullAccess",
        "AmazonSQSFullAccess",
        "AmazonSSMFullAccess",
        "AmazonSSMManagedInstanceCore",
        "AmazonSSMReadOnlyAccess",
        "CloudWatchAgentServerPolicy",
        "CloudWatchFullAccess",
        "CloudWatchFullAccessV2",
        "CloudWatchLogsFullAccess",
        "CloudWatchLogsReadOnlyAccess",
        "PowerUserAccess",
        "ReadOnlyAccess",
        "SecretsManagerReadWrite",
        "service-role/AWSAppRunnerServicePolicyForECRAccess",
        "service-role/AmazonEC2ContainerServiceAutoscaleRole",
        "service-role/AmazonEC2ContainerServiceEventsRole",
        "service-role/AmazonEC2ContainerServiceRole",
        "service-role/AmazonEC2ContainerServiceforEC2Role",
        "service-role/AmazonECSInfrastructureRolePolicyForServiceConnectTransportLayerSecurity",
        "service-role/AmazonECSInfrastructureRolePolicyForVolumes",
        "service-role/AmazonECSTaskExecutionRolePolicy",
    }
)
"""Path and name of each."""


def name_of(arn: str, partition: str) -> str | None:
    """Return the name of a managed policy by its ARN, or None if there is none that is known here."""
    path = arn.removeprefix(f"arn:{partition}:iam::aws:policy/")
    return path.rpartition("/")[2] if path in KNOWN else None


def path_of(arn: str) -> str:
    """Return the path of a managed policy, such as ``/service-role/``."""
    return arn.partition(":policy")[2].rpartition("/")[0] + "/"
