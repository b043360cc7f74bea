"""The labels of everything that the agent makes in the container engine."""

LABEL_TASK = "com.amazonaws.ecs.task-arn"
LABEL_CONTAINER = "com.amazonaws.ecs.container-name"
LABEL_FAMILY = "com.amazonaws.ecs.task-definition-family"
LABEL_REVISION = "com.amazonaws.ecs.task-definition-version"
LABEL_CLUSTER = "com.amazonaws.ecs.cluster"
LABEL_OWNER = "ecs-host-agent.owner"
"""Which agent made the container; one host may carry several, and none touches another's."""
