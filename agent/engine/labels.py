"""The labels of everything that the agent creates in the container engine."""

LABEL_TASK = "com.amazonaws.ecs.task-arn"
LABEL_CONTAINER = "com.amazonaws.ecs.container-name"
LABEL_FAMILY = "com.amazonaws.ecs.task-definition-family"
LABEL_REVISION = "com.amazonaws.ecs.task-definition-version"
LABEL_CLUSTER = "com.amazonaws.ecs.cluster"
LABEL_OWNER = "ecs-host-agent.owner"
"""Identifies the agent that created it; agents on one host leave each other's containers alone."""
