"""The agent process: creates every object, runs them in one TaskGroup, and ends them in order.

``_serve`` shows the whole agent from top to bottom. It starts with what needs only the host (state,
operator socket), waits for the container engine, takes over running tasks, and only then opens the
session with control.

SIGTERM and SIGINT end the process with code 0; tasks keep running. SIGHUP reads the settings again
and starts a new session if they differ (``supervision.lifecycle``). An error that a restart cannot
fix ends the process with ``ExitCode.TERMINAL``, any other with ``ExitCode.ERROR``.

The service manager gets ``READY`` when the tasks are restored and the session with control has
started, or when the first try to reach the container engine failed: the agent then waits for the
engine as long as necessary, and its start must not block others.

Tests: ``tests/integration/supervision/test_reload.py``, ``tests/integration/e2e``.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import random
import time
import uuid
from typing import TYPE_CHECKING

import structlog

from agent import __version__, logs
from agent.endpoints.operator import OperatorSocket
from agent.endpoints.prometheus import PrometheusServer
from agent.engine.engine import Engine, EngineSettings
from agent.engine.network_reconnect import NetworkReconnect
from agent.engine.planner import Policy
from agent.engine.preparations.efs import EFS_AUTH, EfsSettings
from agent.engine.tools import StepSettings, StepTools
from agent.errors import (
    AgentError,
    ConfigError,
    ExitCode,
    RegistrationRefused,
    RuntimeFailure,
    StaleGeneration,
    leaves,
)
from agent.fetching import TaskServices
from agent.images import Images
from agent.metrics.sampler import Sampler
from agent.network.hotplug import LinkHotplug
from agent.network.pool import TaskNetworks
from agent.network.ports import HostPorts
from agent.network.resolv_files import ResolvFiles
from agent.network.settings import NetworkSettings
from agent.overview import Overview
from agent.resources import attributes, inventory
from agent.resources.hotplug import DiskHotplug
from agent.resources.ledger import Ledger
from agent.resources.role_credentials import RoleCredentials
from agent.runtime.docker import DockerEngine
from agent.runtime.pause import ensure_pause_image
from agent.state import Batch, StateStore
from agent.supervision.lifecycle import Lifecycle
from agent.supervision.watchdog import Watchdog
from agent.upstream.backends import open_backend
from agent.upstream.host_identity import OWNER, read_machine
from agent.upstream.protocol import HostParts, RegisterInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.config import Settings
    from agent.model.resources import HostResources
    from agent.runtime.protocol import ContainerEngine, EngineEvent, EngineInfo
    from agent.supervision.lifecycle import ServeSession
    from agent.supervision.notify import Notifier
    from agent.upstream.host_identity import Machine

IMDS_ADDRESSES = ("169.254.169.254/32",)
"""The instance metadata service, which hands out the host's own credentials."""
ENGINE_RETRY_S = (0.25, 15.0)
"""First and longest wait between two tries to reach the engine at start."""

LEAVE_LIMIT_S = 10.0
"""How long the end of the agent waits for a hanging engine."""
STDERR = 2

_log = structlog.get_logger()


def main(settings: Settings, *, reread: Callable[[], Settings], notifier: Notifier) -> int:
    """Run the agent until it is told to stop; return its exit code.

    Args:
        settings: the initial settings.
        reread: reads the settings again for a reload; blocks.
        notifier: the connection to the service manager.
    """
    faulthandler.enable()  # the watchdog ends a stuck agent with SIGABRT: show where it was stuck
    code = ExitCode.SUCCESS
    try:
        asyncio.run(_live(settings, reread, notifier))
    except* (ConfigError, StaleGeneration, RegistrationRefused) as group:
        notifier.status(_texts(group))
        _log.error("the agent cannot continue", error=_texts(group))
        code = ExitCode.TERMINAL
    except* AgentError as group:
        notifier.status(_texts(group))
        _log.error("the agent failed", error=_texts(group))
        code = ExitCode.ERROR
    return code


def _texts(group: BaseExceptionGroup[BaseException]) -> str:
    return "; ".join(str(error) for error in leaves(group))


async def _live(settings: Settings, reread: Callable[[], Settings], notifier: Notifier) -> None:
    """Serve until SIGTERM or SIGINT, with the watchdog at its side."""
    watchdog = Watchdog(notifier)
    started_at = time.time()
    on_terminal = os.isatty(STDERR)
    life = Lifecycle(
        lambda chosen, serve_session: _serve(chosen, serve_session, watchdog, started_at),
        reread=reread,
        adopt=adopt_log,
        notifier=notifier,
        hung_up=lambda: on_terminal and not os.isatty(STDERR),
    )
    feeder = asyncio.create_task(watchdog.run(), name="watchdog")
    try:
        with watchdog.holding([life.liveness]):
            await life.run(settings)
    finally:
        feeder.cancel()
        await asyncio.wait([feeder])


def adopt_log(settings: Settings) -> None:
    """Make the log follow settings, and say what is odd about them; raises ``ConfigError``."""
    logs.configure(settings)
    for warning in settings.warnings:
        _log.warning("setting", problem=warning)


async def _serve(  # noqa: PLR0915 - the whole agent, in order
    settings: Settings, serve_session: ServeSession, watchdog: Watchdog, started_at: float
) -> None:
    async with contextlib.AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(open_backend(settings))
        store = await backend.open_store(settings.data_dir / "agent.db")
        cleanup.push_async_callback(store.close)
        cleanup.enter_context(watchdog.beating(store.beat))
        overview = Overview(settings, store, started_at, backend.endpoint)
        cleanup.enter_context(watchdog.describing(overview.headline))
        watchdog.report()

        operator = OperatorSocket(settings.socket_path, overview)
        await operator.start()
        overview.operator = operator
        cleanup.push_async_callback(operator.close)

        runtime = DockerEngine(settings.docker_host)
        cleanup.push_async_callback(runtime.close)
        overview.runtime = runtime
        info = await _reach_engine(runtime, overview, serve_session, watchdog)

        machine = await asyncio.to_thread(read_machine, settings.data_dir)
        owner, host = await asyncio.gather(_owner_id(store, machine), _read_host(settings, info))
        pause = await ensure_pause_image(runtime, host.architecture)
        networks = TaskNetworks(
            _network_settings(settings, owner),
            store=store,
            engine=runtime,
            image=pause,
            load_image=lambda: ensure_pause_image(runtime, host.architecture),
        )
        cleanup.push_async_callback(_leave_no_spare, networks, settings, serve_session)
        ledger = Ledger(host)
        credentials = RoleCredentials()
        services = TaskServices(settings, os.environ)
        cleanup.push_async_callback(services.close)
        images = _images(settings, runtime)
        cleanup.push_async_callback(images.close)

        async def on_network_event(event: EngineEvent) -> None:
            if event.action == "relist":
                networks.look_again()

        async def ask_control(task_arn: str, names: list[str]) -> Mapping[str, str]:
            return await control.secrets(task_arn, names)

        engine = Engine(
            store=store,
            ledger=ledger,
            tools=StepTools(
                runtime=runtime,
                claim_network=networks.claim,
                release_network=networks.release,
                network_alive=networks.is_alive,
                ensure_image=lambda container, progress: images.ensure(
                    container, on_progress=progress
                ),
                ports=HostPorts(settings.dynamic_host_port_range),
                resolv_files=ResolvFiles(settings.data_dir / "resolv"),
                reconnecter=NetworkReconnect(runtime),
                role_credentials=credentials,
                aws=services,
                control_secrets=ask_control,
            ),
            steps=_step_settings(settings, owner),
            settings=EngineSettings(
                Policy(settings.pull_dependent_upfront, settings.task_cleanup_wait_s),
                cleanup_jitter_s=settings.task_cleanup_jitter_s,
            ),
            on_network_event=on_network_event,
        )
        networks.on_lost = engine.network_lost
        cleanup.push_async_callback(engine.flush)
        engine.on_listed = networks.reconcile
        await engine.restore()
        await networks.start(await engine.sandbox_holders())
        engine.compare_networks(networks.networks(), networks.lost())

        sampler = Sampler(
            engine.targets, interval_s=settings.metrics_interval_s, cgroup_driver=info.cgroup_driver
        )

        def describe_host() -> RegisterInfo:
            return RegisterInfo(
                resources=host,
                attributes=_attributes(settings, host, info, towards_ecs=backend.is_ecs),
                tags=settings.container_instance_tags,
                agent_version=__version__,
                machine_id=machine.id,
                machine_key=machine.key,
                known_tasks=engine.known_tasks(),
            )

        around = HostParts(
            holding=engine.holdings,
            host=engine,
            credentials=credentials,
            links=LinkHotplug(),
            disks=DiskHotplug(),
        )
        control = backend.control(store, describe_host, engine.apply, around)
        overview.engine, overview.control = engine, control
        overview.networks, overview.ledger = networks, ledger

        async with asyncio.TaskGroup() as group:
            group.create_task(operator.keep(), name="operator socket")
            group.create_task(engine.run(), name="engine")
            group.create_task(networks.run(), name="networks")
            group.create_task(control.run(), name="control")
            if not settings.disable_metrics:
                overview.sampler = sampler
                sampler.subscribe(control.offer)
                engine.on_running = sampler.poke
                group.create_task(sampler.run(), name="metrics")
            if settings.prometheus:
                server = PrometheusServer(overview, overview.sampler, port=settings.prometheus_port)
                await server.start()
                cleanup.push_async_callback(server.close)
            cleanup.enter_context(watchdog.holding(control.livenesses))
            await control.begun.wait()
            _settle_memory()
            cleanup.callback(gc.unfreeze)
            serve_session.settle()
            watchdog.report_soon()
            _log.info("agent started", version=__version__, cluster=settings.cluster)


def _settle_memory() -> None:
    """Take everything loaded at start out of later garbage collections: it lives to the session's end."""
    gc.collect()
    gc.freeze()


async def _reach_engine(
    runtime: ContainerEngine, overview: Overview, serve_session: ServeSession, watchdog: Watchdog
) -> EngineInfo:
    """Return once the engine has answered; until then the agent shows what it waits for."""
    wait_s, longest_s = ENGINE_RETRY_S
    while True:
        try:
            info = await runtime.connect()
        except RuntimeFailure as error:
            overview.trouble["engine"] = (
                f"waiting for the container engine: {error}; start it "
                "('systemctl start docker') or set DOCKER_HOST"
            )
            _log.warning("waiting for the container engine", error=str(error))
            watchdog.report()
            serve_session.ready()
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.2))  # noqa: S311 - spreads retries
            wait_s = min(longest_s, wait_s * 2)
        else:
            overview.trouble.pop("engine", None)
            overview.engine_version = info.version
            return info


async def _owner_id(store: StateStore, machine: Machine) -> str:
    """Return the name by which this agent knows its own containers; made once per data directory.

    The same again where everything in that directory was lost, so that they are still its own.
    """
    owner = await store.get_meta(OWNER)
    if owner is None:
        owner = machine.owner or uuid.uuid4().hex
        batch = Batch()
        batch.put_meta(OWNER, owner)
        await store.commit(batch)
    return owner


async def _read_host(settings: Settings, info: EngineInfo) -> HostResources:
    ports = set(settings.reserved_ports)
    if settings.prometheus:
        ports.add(settings.prometheus_port)
    return await inventory.read_host(
        reserved_memory_mib=settings.reserved_memory_mib,
        reserved_tcp=ports,
        reserved_udp=settings.reserved_ports_udp,
        gpu_enabled=settings.gpu_support is not False,
        engine_info=info,
    )


def _network_settings(settings: Settings, owner: str) -> NetworkSettings:
    return NetworkSettings(
        owner=owner,
        pool_cidr=settings.task_pool_cidr,
        bridge=settings.task_bridge,
        table=settings.firewall_table,
        warm_sandboxes=settings.warm_sandboxes,
        dns_servers=settings.task_dns_servers,
        mtu=settings.task_mtu,
        blocked_addresses=IMDS_ADDRESSES if settings.block_imds else (),
    )


def _images(settings: Settings, runtime: ContainerEngine) -> Images:
    return Images(
        runtime,
        behavior=settings.image_pull_behavior,
        auth_type=settings.engine_auth_type,
        auth_data=settings.engine_auth_data,
        inactivity_s=settings.image_pull_inactivity_timeout_s,
        pull_limit_s=settings.image_pull_timeout_s,
        manifest_limit_s=settings.manifest_pull_timeout_s,
    )


def _step_settings(settings: Settings, owner: str) -> StepSettings:
    return StepSettings(
        cluster=settings.cluster,
        owner=owner,
        stop_timeout_s=round(settings.container_stop_timeout_s),
        create_limit_s=settings.container_create_timeout_s,
        start_limit_s=settings.container_start_timeout_s,
        privileged_allowed=not settings.disable_privileged,
        efs=EfsSettings(
            servers=settings.efs_servers,
            trusted=settings.efs_servers_trusted,
            plugin=EFS_AUTH in settings.volume_plugin_capabilities,
        ),
    )


def _attributes(
    settings: Settings, host: HostResources, info: EngineInfo, *, towards_ecs: bool
) -> dict[str, str]:
    features = attributes.Features(
        logging_drivers=settings.available_logging_drivers,
        privileged=not settings.disable_privileged,
        health_checks=not settings.disable_health_check,
        volume_plugins=info.volume_plugins,
        selinux=settings.selinux,
        apparmor=settings.apparmor,
        task_limits=False,
        fargate=bool(settings.offer_fargate),
        nfs=host.mounts_nfs,
        efs_auth=EFS_AUTH in settings.volume_plugin_capabilities
        or (settings.efs_servers_trusted and bool(settings.efs_servers)),
    )
    if towards_ecs:
        attributes.checked(settings.instance_attributes)  # the client adds them by itself
        return attributes.towards_ecs(
            host,
            features,
            api_version=info.api_version,
            zone=settings.availability_zone,
            external=settings.external,
            detailed_os_family=settings.detailed_os_family,
        )
    return attributes.advertised(
        host,
        features,
        api_version=info.api_version,
        zone=settings.availability_zone,
        custom=settings.instance_attributes,
    )


async def _leave_no_spare(
    networks: TaskNetworks, settings: Settings, serve_session: ServeSession
) -> None:
    """Remove bridge, rules and spare sandboxes when the agent stops and no task needs them.

    Settings that follow with the same networks take them over as they are.
    """
    follower = serve_session.successor
    kept = follower is not None and _network_settings(follower, "") == _network_settings(
        settings, ""
    )
    try:
        if networks.started and not kept and not networks.networks():
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await networks.remove_host_objects()
    except (AgentError, TimeoutError) as error:
        _log.warning(
            "network left in place; the next start cleans it up",
            error=str(error) or f"not removed within {LEAVE_LIMIT_S:g} s",
        )
    await networks.close()
