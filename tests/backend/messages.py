"""Builders of what ECS sends: tasks with all that they may carry, credentials, interfaces, volumes."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from tests.backend.api import ACCOUNT, REGION, cluster_arn, task_arn


def container(name: str = "app", image: str = "", *command: str, **fields: Any) -> dict[str, Any]:
    """Return a container; fields that are None are left out."""
    whole: dict[str, Any] = {
        "name": name,
        "image": image,
        "command": list(command),
        "containerArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container/default/{uuid.uuid4()}",
        "cpu": 10,
        "memory": 32,
        "essential": True,
        "environment": {},
        "dockerConfig": {"config": "{}", "hostConfig": "{}", "version": "1.17"},
        "overrides": "{}",
        "portMappings": [],
        "mountPoints": [],
        "volumesFrom": [],
        "stopTimeout": 2,
        **fields,
    }
    return {k: v for k, v in whole.items() if v is not None}


def task(
    *containers: dict[str, Any], arn: str = "", desired: str = "RUNNING", **fields: Any
) -> dict[str, Any]:
    """Return a task; fields that are None are left out."""
    whole: dict[str, Any] = {
        "arn": arn or task_arn(),
        "family": "backend",
        "version": "7",
        "desiredStatus": desired,
        "networkMode": "none",
        "containers": list(containers),
        "volumes": [],
        "overrides": "{}",
        "taskClusterArn": cluster_arn("default"),
        "taskDefinitionAccountId": ACCOUNT,
        "launchType": "EXTERNAL",
        "group": "family:backend",
        **fields,
    }
    return {k: v for k, v in whole.items() if v is not None}


def everything(image: str, *command: str, arn: str = "") -> dict[str, Any]:
    """Return a task that carries every harmless field of the wire, used or not."""
    full = container(
        "app",
        image,
        *command,
        environment={"A": "1", "ODD": 'a "quoted" ✓ text'},
        links=[],
        credentialSpecs=[],
        networkInterfaceNames=[],
        environmentFiles=[],
        privileged=False,
        dependsOn=[],
        dockerConfig={
            "version": "1.17",
            "config": json.dumps({"Labels": {"team": "backend"}, "StopSignal": "SIGTERM"}),
            "hostConfig": json.dumps({"ReadonlyRootfs": True, "CapDrop": ["NET_RAW"]}),
        },
        linuxParameters={"initProcessEnabled": False},
        managedAgents=[],
        restartPolicy={"enabled": False, "ignoredExitCodes": [], "restartAttemptPeriod": 300},
        secrets=[],
        startTimeout=30,
    )
    return task(
        full,
        arn=arn,
        agentConfiguration={"containerInstanceRoleArn": "arn:aws:iam::123456789012:role/i"},
        associations=[],
        attachments=[],
        cpu=0.5,
        memory=64,
        elasticNetworkInterfaces=[],
        enableFaultInjection=False,
        serviceName="web",
        zone=f"{REGION}a",
        proxyConfiguration=None,
        trustedExecutionConfiguration={"isolationMode": "SHARED"},
    )


def stop(arn: str) -> dict[str, Any]:
    """Return a task as ECS sends it to have it stopped."""
    return {
        "arn": arn,
        "desiredStatus": "STOPPED",
        "family": "backend",
        "version": "7",
        "containers": [],
        "taskClusterArn": cluster_arn("default"),
    }


def payload(*tasks: Any, seq: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the fields of a ``PayloadMessage`` beside the ids."""
    return {
        "tasks": list(tasks),
        "seqNum": seq,
        "timeline": seq,
        "generatedAt": round(time.time() * 1000),
        **fields,
    }


def credentials(secret: str, *, credentials_id: str = "", **fields: Any) -> dict[str, Any]:
    """Return role credentials whose secrets all hold one text."""
    return {
        "credentialsId": credentials_id or str(uuid.uuid4()),
        "accessKeyId": "ASIABACKENDTEST",
        "secretAccessKey": f"secret-{secret}",
        "sessionToken": f"token-{secret}",
        "roleArn": f"arn:aws:iam::{ACCOUNT}:role/task",
        "expiration": "2036-03-25T06:17:19.318+0000",
        "credentialScope": "",
        **fields,
    }


def interface(mac: str = "0a:1b:2c:3d:4e:5f", **fields: Any) -> dict[str, Any]:
    """Return an elastic network interface; fields that are None are left out."""
    whole: dict[str, Any] = {
        "attachmentArn": attachment_arn(),
        "ec2Id": "eni-0123456789abcdef0",
        "macAddress": mac,
        "index": 1,
        "interfaceAssociationProtocol": "default",
        "ipv4Addresses": [{"primary": True, "privateAddress": "10.7.0.5"}],
        "ipv6Addresses": [],
        "subnetGatewayIpv4Address": "10.7.0.1/24",
        "domainName": ["eu.internal"],
        "domainNameServers": ["10.7.0.2"],
        "privateDnsName": "ip-10-7-0-5.internal",
        "name": "eni",
        **fields,
    }
    return {k: v for k, v in whole.items() if v is not None}


def attachment_arn() -> str:
    """Return the ARN of an attachment that did not exist before."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:attachment/{uuid.uuid4()}"


def attach(*interfaces: dict[str, Any], wait_ms: int = 60_000, arn: str = "") -> dict[str, Any]:
    """Return the fields of a message that announces interfaces, to a task when ``arn`` is given."""
    whole: dict[str, Any] = {
        "elasticNetworkInterfaces": list(interfaces),
        "waitTimeoutMs": wait_ms,
        "generatedAt": round(time.time() * 1000),
    }
    if arn:
        whole |= {"taskArn": arn, "taskClusterArn": cluster_arn("default")}
    return whole


def volume(volume_id: str = "vol-0123456789abcdef0", **properties: str) -> dict[str, Any]:
    """Return the attachment of an EBS volume."""
    named = {
        "volumeId": volume_id,
        "volumeSizeGib": "1",
        "deviceName": "/dev/sdb",
        "sourceVolumeHostPath": f"/mnt/ecs/ebs/{volume_id}",
        "volumeName": "data",
        "fileSystem": "xfs",
        **properties,
    }
    return {
        "attachmentArn": attachment_arn(),
        "attachmentType": "amazonebs",
        "attachmentProperties": [{"name": k, "value": v} for k, v in named.items()],
    }


def confirm(attachment: dict[str, Any], *, arn: str = "", wait_ms: int = 60_000) -> dict[str, Any]:
    """Return the fields of a ``ConfirmAttachmentMessage``."""
    return {
        "attachment": attachment,
        "waitTimeoutMs": wait_ms,
        "generatedAt": round(time.time() * 1000),
        "taskArn": arn or task_arn(),
        "taskClusterArn": cluster_arn("default"),
    }


def listed(arn: str, desired: str = "RUNNING") -> dict[str, str]:
    """Return a task as manifests name it."""
    return {"taskArn": arn, "desiredStatus": desired, "taskClusterArn": cluster_arn("default")}


def manifest(*tasks: dict[str, str], timeline: int) -> dict[str, Any]:
    """Return the fields of a ``TaskManifestMessage``."""
    return {
        "tasks": list(tasks),
        "timeline": timeline,
        "generatedAt": round(time.time() * 1000),
    }


def update(
    location: str = "https://example.com/agent.tar", signature: str = "00"
) -> dict[str, Any]:
    """Return the fields of the two messages that update an agent."""
    return {"updateInfo": {"location": location, "signature": signature}}
