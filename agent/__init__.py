"""ecs-host-agent: runs Amazon ECS tasks on hosts that people run themselves."""

__version__ = "0.1.0"
