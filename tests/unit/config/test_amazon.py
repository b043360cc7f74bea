"""The table of Amazon's settings says what the code does, and leaves none of them out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.config import amazon, json_file
from agent.config.amazon import Compatibility
from agent.config.known import GIVEN_TO_CONTAINERS, WITHOUT_EFFECT
from agent.config.settings import variables

# What the Amazon ECS agent 1.105.1 and ecs-init read, as their sources have it.
AGENT = """
    ECS_CLUSTER AWS_DEFAULT_REGION ECS_BACKEND_HOST AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    AWS_SESSION_TOKEN ECS_ALTERNATE_CREDENTIAL_PROFILE HTTP_PROXY HTTPS_PROXY NO_PROXY DOCKER_HOST
    AWS_EC2_METADATA_DISABLED AWS_EC2_METADATA_SERVICE_ENDPOINT
    ECS_ENGINE_AUTH_TYPE ECS_ENGINE_AUTH_DATA ECS_EXTERNAL ECS_AGENT_CONFIG_FILE_PATH
    ECS_INSTANCE_IP_COMPATIBILITY ECS_DETAILED_OS_FAMILY SSL_CERT_DIR

    ECS_INSTANCE_ATTRIBUTES ECS_CONTAINER_INSTANCE_TAGS ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM
    ECS_RESERVED_PORTS ECS_RESERVED_PORTS_UDP ECS_RESERVED_MEMORY ECS_AVAILABLE_LOGGING_DRIVERS
    ECS_DISABLE_PRIVILEGED ECS_SELINUX_CAPABLE ECS_APPARMOR_CAPABLE ECS_WARM_POOLS_CHECK
    ECS_ENABLE_SPOT_INSTANCE_DRAINING

    ECS_DATADIR ECS_CHECKPOINT ECS_HOST_DATA_DIR ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION
    ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER ECS_DISABLE_IMAGE_CLEANUP
    ECS_IMAGE_CLEANUP_INTERVAL ECS_IMAGE_MINIMUM_CLEANUP_AGE NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE
    ECS_NUM_IMAGES_DELETE_PER_CYCLE NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE
    ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP ECS_EXCLUDE_UNTRACKED_IMAGE ECS_IMAGE_PULL_BEHAVIOR
    ECS_IMAGE_PULL_INACTIVITY_TIMEOUT ECS_IMAGE_PULL_TIMEOUT ECS_MANIFEST_PULL_TIMEOUT
    ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT ECS_SHARED_VOLUME_MATCH_FULL_CONFIG

    ECS_CONTAINER_STOP_TIMEOUT ECS_CONTAINER_START_TIMEOUT ECS_CONTAINER_CREATE_TIMEOUT
    ECS_ENABLE_TASK_CPU_MEM_LIMIT ECS_CGROUP_PATH ECS_CGROUP_CPU_PERIOD ECS_TASK_PIDS_LIMIT
    ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2 ECS_DYNAMIC_HOST_PORT_RANGE
    ECS_EXCLUDE_IPV6_PORTBINDING ECS_ENABLE_CONTAINER_METADATA ECS_DISABLE_DOCKER_HEALTH_CHECK
    ECS_ENABLE_FIRELENS_ASYNC

    ECS_ENABLE_TASK_IAM_ROLE ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST
    ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE ECS_ENABLE_TASK_ENI ECS_ENABLE_HIGH_DENSITY_ENI
    ECS_AWSVPC_BLOCK_IMDS ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES ECS_CNI_PLUGINS_PATH ECS_PAUSE_LABELS
    ECS_TASK_METADATA_RPS_LIMIT ECS_DISABLE_TASK_METADATA_AZ

    ECS_LOGLEVEL ECS_LOGLEVEL_ON_INSTANCE ECS_LOGFILE ECS_LOG_ROLLOVER_TYPE ECS_LOG_OUTPUT_FORMAT
    ECS_LOG_MAX_FILE_SIZE_MB ECS_LOG_MAX_ROLL_COUNT ECS_AUDIT_LOGFILE ECS_AUDIT_LOGFILE_DISABLED
    ECS_DISABLE_METRICS ECS_POLL_METRICS ECS_POLLING_METRICS_WAIT_DURATION
    ECS_ENABLE_PROMETHEUS_METRICS ECS_ENABLE_RUNTIME_STATS ECS_AGENT_HEALTHCHECK_HOST

    ECS_UPDATES_ENABLED ECS_UPDATE_DOWNLOAD_DIR ECS_ENABLE_GPU_SUPPORT ECS_NVIDIA_RUNTIME
    ECS_ENABLE_INF_SUPPORT ECS_VOLUME_PLUGIN_CAPABILITIES ECS_EBSTA_SUPPORTED ECS_GMSA_SUPPORTED
    CREDENTIALS_FETCHER_HOST CREDENTIALS_FETCHER_HOST_DIR ECS_DOMAIN_JOINED_LINUX_INSTANCE
    CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED
    ECS_ENABLE_CPU_UNBOUNDED_WINDOWS_WORKAROUND ECS_ENABLE_MEMORY_UNBOUNDED_WINDOWS_WORKAROUND
    ECS_DOCKER_PULL_INACTIVITY_TIMEOUT ECS_POLL_METRICS_WAIT_DURATION
    ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME
"""
STARTER = """
    ECS_LOG_DRIVER ECS_LOG_OPTS ECS_INIT_DOCKER_LOG_FILE_SIZE ECS_INIT_DOCKER_LOG_FILE_NUM
    ECS_AGENT_LABELS ECS_AGENT_APPARMOR_PROFILE ECS_AGENT_PID_NAMESPACE_HOST
    ECS_AGENT_RUN_PRIVILEGED ECS_SKIP_LOCALHOST_TRAFFIC_FILTER
    ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS
"""
FLAGS = """
    -version -loglevel -loglevel-driver -loglevel-on-instance -ecs-attributes -k -license
    -blackhole-ec2-metadata -healthcheck
"""
JSON_ONLY = """
    NoIID PauseContainerTarballPath PauseContainerImageName PauseContainerTag
    OverrideAWSVPCLocalIPv4Address ENIPauseContainerCleanupDelaySeconds InstanceENIDNSServerList
    CSIDriverSocketPath NodeStageTimeout NodeUnstageTimeout RuntimeStatsLogFile IMDSIAMRolesEnabled
"""
MEMBERS = """
    ClusterArn Cluster APIEndpoint DockerEndpoint AWSRegion ReservedPorts ReservedPortsUDP DataDir
    DataDirOnHost Checkpoint EngineAuthType EngineAuthData UpdatesEnabled UpdateDownloadDir
    DisableMetrics PollMetrics PollingMetricsWaitDuration DisableDockerHealthCheck ReservedMemory
    ManifestPullTimeout DockerStopTimeout ContainerStartTimeout ContainerCreateTimeout
    DependentContainersPullUpfront ImagePullInactivityTimeout ImagePullTimeout
    AvailableLoggingDrivers PrivilegedDisabled SELinuxCapable AppArmorCapable
    TaskCleanupWaitDuration TaskCleanupWaitDurationJitter TaskIAMRoleEnabled
    DeleteNonECSImagesEnabled TaskCPUMemLimit CredentialsAuditLogFile CredentialsAuditLogDisabled
    TaskIAMRoleEnabledForNetworkHost TaskENIEnabled ENITrunkingEnabled ImageCleanupDisabled
    MinimumImageDeletionAge NonECSMinimumImageDeletionAge ImageCleanupInterval
    NumImagesToDeletePerCycle NumNonECSContainersToDeletePerCycle ImagePullBehavior
    InstanceAttributes CNIPluginsPath PauseContainerTarballPath PauseContainerImageName
    PauseContainerTag PrometheusMetricsEnabled AWSVPCBlockInstanceMetdata
    OverrideAWSVPCLocalIPv4Address AWSVPCAdditionalLocalRoutes ContainerMetadataEnabled
    OverrideAWSLogsExecutionRole CgroupPath PlatformVariables TaskMetadataSteadyStateRate
    TaskMetadataBurstRate SharedVolumeMatchFullConfig NoIID ContainerInstancePropagateTagsFrom
    ContainerInstanceTags GPUSupportEnabled EBSTASupportEnabled InferentiaSupportEnabled
    ImageCleanupExclusionList NvidiaRuntime TaskMetadataAZDisabled
    ENIPauseContainerCleanupDelaySeconds CgroupCPUPeriod SpotInstanceDrainingEnabled GMSACapable
    GMSADomainlessCapable VolumePluginCapabilities FSxWindowsFileServerCapable External
    InstanceENIDNSServerList RuntimeStatsLogFile EnableRuntimeStats ShouldExcludeIPv6PortBinding
    WarmPoolsSupport DynamicHostPortRange TaskPidsLimit CSIDriverSocketPath NodeStageTimeout
    NodeUnstageTimeout FirelensAsyncEnabled InstanceIPCompatibility IMDSIAMRolesEnabled
    PropagateTaskMemoryLimitCgroupV2
"""


def test_the_table_has_everything_that_amazons_agent_reads_and_nothing_else() -> None:
    expected = [*AGENT.split(), *STARTER.split(), *FLAGS.split(), *JSON_ONLY.split()]
    assert sorted(amazon.rows()) == sorted(expected)
    assert len(amazon.rows()) == sum(len(group) for group in amazon.GROUPS.values())


def test_the_json_file_takes_every_member_of_the_go_agents() -> None:
    known = [*json_file.MEMBERS, *json_file.OLD_NAMES, *json_file.MEMBERS_WITHOUT_EFFECT]
    assert sorted(known) == sorted(MEMBERS.split())


def test_every_setting_of_amazons_agent_is_told_to_have_an_effect() -> None:
    for variable in variables().values():
        row = amazon.rows().get(variable.name)
        assert (row is None) == variable.ours, variable.name
        assert row is None or row.verdict is not Compatibility.NONE, variable.name


def test_what_has_no_effect_is_told_to_have_none() -> None:
    table = amazon.rows()
    for name in WITHOUT_EFFECT - {"SSL_CERT_DIR"}:  # OpenSSL's own, in the environment
        assert table[name].verdict is Compatibility.NONE, name
    settings = {variable.name for variable in variables().values()}
    for row in (*amazon.rows().values(),):
        if row.name.isupper() and row.verdict is Compatibility.NONE:
            assert row.name in WITHOUT_EFFECT, row.name
        if (
            row.name.isupper()
            and row.verdict is not Compatibility.NONE
            and row.name != "SSL_CERT_DIR"
        ):
            assert row.name in settings, row.name
    assert not GIVEN_TO_CONTAINERS & set(table)


@pytest.mark.parametrize(
    "row",
    [row for row in amazon.rows().values() if row.verdict is Compatibility.SAME],
    ids=lambda r: r.name,
)
def test_the_same_means_the_same_default_and_bounds(row: amazon.Row) -> None:
    variable = next(v for v in variables().values() if v.name == row.name)
    assert row.default == (variable.note or variable.default_text)
    found = variable.bounds
    assert row.bounds == (found and (found.low, found.high, found.outside))


def test_whatever_is_not_the_same_says_why() -> None:
    for row in amazon.rows().values():
        assert bool(row.how) == (row.verdict is not Compatibility.SAME), row.name
        assert row.how == "" or row.how.endswith("."), row.name


def test_reading_settings_does_not_load_the_table() -> None:
    script = "import sys, agent.config, agent.config.settings; print('agent.config.amazon' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
