"""Names that the Amazon ECS agent or its starter reads and that have no effect here (yet).

They are accepted, so that an ``ecs.config`` written for Amazon ECS works unchanged, and one warning
line lists those that are set. Source: Amazon ECS agent 1.105.1 and ecs-init, their README files and
``agent/config``. Remove a name when ``Settings`` supports it; a test fails if a name is in both.
"""

from __future__ import annotations

WITHOUT_EFFECT = frozenset(
    [
        "CREDENTIALS_FETCHER_HOST",
        "CREDENTIALS_FETCHER_HOST_DIR",
        "CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA",
        "ECS_AGENT_APPARMOR_PROFILE",
        "ECS_AGENT_LABELS",
        "ECS_AGENT_PID_NAMESPACE_HOST",
        "ECS_AGENT_RUN_PRIVILEGED",
        "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES",
        "ECS_CHECKPOINT",
        "ECS_CNI_PLUGINS_PATH",
        "ECS_DOCKER_PULL_INACTIVITY_TIMEOUT",
        "ECS_DOMAIN_JOINED_LINUX_INSTANCE",
        "ECS_EBSTA_SUPPORTED",
        "ECS_ENABLE_CPU_UNBOUNDED_WINDOWS_WORKAROUND",
        "ECS_ENABLE_INF_SUPPORT",
        "ECS_ENABLE_MEMORY_UNBOUNDED_WINDOWS_WORKAROUND",
        "ECS_ENABLE_RUNTIME_STATS",
        "ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED",
        "ECS_GMSA_SUPPORTED",
        "ECS_HOST_DATA_DIR",
        "ECS_INIT_DOCKER_LOG_FILE_NUM",
        "ECS_INIT_DOCKER_LOG_FILE_SIZE",
        "ECS_INSTANCE_IP_COMPATIBILITY",
        "ECS_LOG_DRIVER",
        "ECS_LOG_OPTS",
        "ECS_LOGLEVEL_ON_INSTANCE",
        "ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME",
        "ECS_PAUSE_LABELS",
        "ECS_POLL_METRICS",
        "ECS_POLL_METRICS_WAIT_DURATION",
        "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG",
        "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
        "ECS_UPDATE_DOWNLOAD_DIR",
        "SSL_CERT_DIR",
    ]
)

GIVEN_TO_CONTAINERS = frozenset(
    [
        "ECS_AGENT_URI",
        "ECS_CONTAINER_METADATA_FILE",
        "ECS_CONTAINER_METADATA_URI",
        "ECS_CONTAINER_METADATA_URI_V4",
    ]
)
"""Set by an ECS agent in its containers; present if this agent itself runs in one."""
