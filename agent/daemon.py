"""The agent from top to bottom: ``serve`` creates every object and runs them in one TaskGroup.

It starts with what needs only the host (state, operator socket), waits for the container engine, takes
over running tasks, and only then opens the session with control. ``start`` calls it, once for each
session: at the start, and after a reload with other settings.

The service manager gets ``READY`` when the tasks are restored and the session with control has
started, or when the first try to reach the container engine failed: the agent then waits for the
engine as long as necessary, and its start must not block others.

Tests: ``tests/integration/supervision/test_reload.py``, ``tests/integration/e2e``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent import __version__
from agent.awslogs.parts import LogParts
from agent.endpoints.exec_sessions import ExecSessions
from agent.endpoints.operator import OperatorSocket
from agent.engine.engine import Engine
from agent.engine.namespace_holders import NamespaceHolders
from agent.engine.network_reconnect import NetworkReconnect
from agent.engine.restored import HeldNetworks, RestoredTasks
from agent.engine.settings import EngineCallbacks
from agent.engine.tools import StepTools
from agent.fetching import TaskServices
from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
from agent.network.host_ports import HostPorts
from agent.network.kernel.link_hotplug import LinkHotplug
from agent.network.names.hosts_files import HostsFiles
from agent.network.names.resolv_files import ResolvFiles
from agent.network.pool import TaskNetworks
from agent.overview import LocalServer, Overview, RunningParts
from agent.resources.disk_hotplug import DiskHotplug
from agent.resources.ledger import Ledger
from agent.resources.role_credentials import RoleCredentials
from agent.runtime.docker import DockerEngine, LaneSizes
from agent.runtime.pause import ensure_pause_image
from agent.state.secret import kept_secret
from agent.task_endpoint import protection
from agent.task_endpoint.credential_lookup import CredentialLookup
from agent.task_endpoint.credentials import CredentialsPart
from agent.task_endpoint.fault_injection import FaultInjection
from agent.task_endpoint.metadata.parts import Later, MetadataParts
from agent.upstream.backends import open_backend
from agent.upstream.draining import Drain, Leaving, leave_host, stop_at_deadline
from agent.upstream.host_identity import (
    ENDPOINT_SECRET,
    ec2_instance_id,
    owner_id,
    read_machine,
)
from agent.upstream.protocol import HostParts
from agent.wiring.endpoints import (
    TaskRequests,
    audit_log,
    find_callers,
    host_names,
    introspection,
    loopback_servers,
    metadata_files,
)
from agent.wiring.engine_wait import reach_engine
from agent.wiring.fleet import fleet_settings, rotate_key, settle_range
from agent.wiring.host import need_network, network_settings, read_host, task_groups
from agent.wiring.host_policy import host_policy_gate
from agent.wiring.images import open_images
from agent.wiring.leaving import leave_no_ready, leave_no_spare
from agent.wiring.metrics import make_sampler, show_metrics
from agent.wiring.names import TaskNames
from agent.wiring.orders import take_orders
from agent.wiring.registration import describe
from agent.wiring.tasks import engine_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config import Settings
    from agent.runtime.protocol import EngineEvent
    from agent.supervision.held_sockets import HeldSockets
    from agent.supervision.lifecycle import ServeSession
    from agent.supervision.watchdog import Watchdog

DRAIN_REASON = "Host is draining"

_log = structlog.get_logger()


async def serve(  # noqa: PLR0915 - the whole agent, in order
    settings: Settings,
    serve_session: ServeSession,
    watchdog: Watchdog,
    sockets: HeldSockets,
    started_at: float,
) -> None:
    """Serve one session until cancelled; tasks keep running.

    Args:
        settings: of this session.
        serve_session: is told when the agent is ready and has settled; knows what follows.
        watchdog: watches the parts that must not hang.
        sockets: those that an earlier process listened on.
        started_at: when the process started, as wall time.

    Raises:
        AgentError: the agent cannot work; ``terminal`` says whether a restart can help.
    """
    async with contextlib.AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(open_backend(settings))
        store = await backend.open_store(settings.data_dir / "agent.db")
        cleanup.push_async_callback(store.close)
        cleanup.enter_context(watchdog.beating(store.beat))
        overview = Overview(settings, store, started_at, backend.endpoint)
        cleanup.enter_context(watchdog.describing(overview.headline))
        watchdog.report()

        operator = await OperatorSocket.open(settings.socket_path, overview)
        cleanup.push_async_callback(operator.close)

        runtime = DockerEngine(
            settings.docker_host, sizes=LaneSizes(pulls=settings.image_pull_limit)
        )
        cleanup.push_async_callback(runtime.close)
        cleanup.push_async_callback(operator.end_followers)
        info = await reach_engine(runtime, overview, serve_session, watchdog)

        machine = await asyncio.to_thread(read_machine, settings.data_dir)
        fleet = await fleet_settings(settings, store)
        owner, host = await asyncio.gather(owner_id(store, machine), read_host(settings, info))
        load_pause = partial(ensure_pause_image, runtime, host.architecture)
        pause = await load_pause()
        restored = await RestoredTasks.open(store)
        networks_wanted = network_settings(settings, owner, await runtime.default_bridge(), fleet)
        networks = await TaskNetworks.open(
            networks_wanted,
            store=store,
            engine=runtime,
            image=pause,
            load_image=load_pause,
            holders=await restored.sandbox_holders(runtime, owner),
            is_told_of_groups=not backend.is_ecs,
        )
        cleanup.push_async_callback(
            leave_no_spare,
            networks,
            settings,
            serve_session,
            lambda: overview.holds_network or need_network(restored.records),
        )

        def namespace_of(ipv4: str) -> str:
            """Return the namespace of Service Connect of the task with an address; empty without."""
            task = engine.tasks.record(networks.task_at(ipv4))
            return task.payload.connect_namespace if task is not None else ""

        names = TaskNames(networks_wanted, namespace_of)
        cleanup.push_async_callback(names.close)
        networks.on_rules_checked(names.look_again)
        groups = await task_groups(settings, info, owner)
        cleanup.push_async_callback(groups.close)
        namespaces = NamespaceHolders(
            runtime,
            owner=owner,
            image=pause,
            load_image=load_pause,
            records=restored.records,
            groups=groups,
        )
        cleanup.callback(namespaces.close)
        ports = HostPorts(settings.dynamic_host_port_range)
        container_sandboxes = ContainerSandboxes(
            runtime,
            owner=owner,
            image=pause,
            load_image=load_pause,
            ports=ports,
            least=settings.warm_sandboxes,
        )
        cleanup.push_async_callback(leave_no_ready, container_sandboxes, settings, serve_session)
        await container_sandboxes.take_over(
            await restored.container_sandboxes(runtime, owner), restored.stopped()
        )
        ledger = Ledger(host)
        drain = await Drain.open(store)
        credentials = RoleCredentials()
        services = TaskServices(settings, os.environ)
        cleanup.push_async_callback(services.close)
        log_parts = await LogParts.build(settings, store, first_secret=machine.log_secret)
        cleanup.push_async_callback(log_parts.spool.close)

        def wanted_images() -> Iterable[str]:
            return engine.tasks.wanted_images()

        async def ask_control(task_arn: str, names: list[str]) -> Mapping[str, str]:
            return await control.secrets(task_arn, names)

        metadata = MetadataParts.build(
            await kept_secret(store, ENDPOINT_SECRET, first=machine.endpoint_secret),
            host_names(settings, owner, store, lambda: control.status.instance_arn),
            runtime,
            Later(
                tasks=lambda: engine.tasks, ask_tags=lambda: control.tags, samples=lambda: sampler
            ),
            file_place=metadata_files(settings, info),
        )

        faults = FaultInjection(metadata.task_of, lambda: engine.tasks, settings.firewall_table)
        cleanup.push_async_callback(faults.close)

        async def remove_left_over(task_arns: list[str]) -> None:
            await networks.reconcile(task_arns)
            await namespaces.reconcile(task_arns)
            await container_sandboxes.reconcile(task_arns)
            await groups.reconcile(task_arns)
            await faults.reconcile()

        def on_engine_event(event: EngineEvent) -> None:
            networks.take_note_of(event)
            namespaces.take_note_of(event)
            container_sandboxes.take_note_of(event)
            groups.take_note_of(event)
            metadata.take_note_of(event)
            faults.take_note_of(event)

        image_parts = await open_images(
            settings, runtime, info, services, ask_control, store, wanted_images
        )
        images = image_parts.images
        cleanup.push_async_callback(images.close)
        new_containers = asyncio.Event()
        engine = Engine(
            store=store,
            ledger=ledger,
            tools=StepTools(
                runtime=runtime,
                claim_network=networks.claim,
                claim_eni=networks.claim_eni
                if backend.is_ecs and settings.task_eni and not settings.external
                else None,
                release_network=networks.release,
                network_alive=networks.is_alive,
                lead_alias_ports=networks.lead_alias_ports,
                container_sandboxes=container_sandboxes,
                ensure_image=images.ensure,
                ports=ports,
                resolv_files=ResolvFiles(settings.data_dir / "resolv"),
                hosts_files=HostsFiles(settings.data_dir / "hosts"),
                reconnecter=NetworkReconnect(runtime),
                groups=groups,
                namespaces=namespaces,
                role_credentials=credentials,
                aws=services,
                control_secrets=ask_control,
                log_relay=log_parts.address,
                endpoint_variables=metadata.variables,
                metadata_files=metadata.files,
            ),
            settings=engine_settings(
                settings,
                owner,
                info,
                ec2_instance_id=await ec2_instance_id(store),
                host_policy=await host_policy_gate(
                    settings, engine_data=info.data_root, task_limits=groups.limiting
                ),
            ),
            restored=restored.with_networks(HeldNetworks(networks.networks(), networks.lost())),
            callbacks=EngineCallbacks(
                running=new_containers.set,
                engine_event=on_engine_event,
                listed=remove_left_over,
            ),
        )
        cleanup.push_async_callback(engine.flush)

        control = await backend.open_control(
            store,
            lambda: describe(
                settings,
                host,
                info,
                machine,
                towards_ecs=backend.is_ecs,
                task_limits=groups.limiting,
                known_tasks=engine.tasks.known_tasks(),
                security_groups=networks.filters_tasks,
                task_names=networks_wanted.answers_names,
                fleet=fleet,
            ),
            partial(
                take_orders,
                networks,
                engine,
                names,
                partial(
                    settle_range,
                    used=fleet,
                    has_ipv6_tasks=networks.has_ipv6_tasks,
                    store=store,
                    serve_session=serve_session,
                ),
            ),
            HostParts(
                holding=engine.holdings,
                host=engine,
                credentials=credentials,
                links=LinkHotplug(),
                disks=DiskHotplug(),
                logs=log_parts.spool,
                drain=drain,
                commands=ExecSessions(overview),
            ),
        )
        cleanup.push_async_callback(control.close)
        sampler = None
        if not settings.disable_metrics:
            sampler = make_sampler(settings, info, host, engine.tasks.targets, new_containers)
            sampler.subscribe(control.offer)
        callers = await find_callers(settings, engine.tasks.places)
        cleanup.callback(callers.close)
        audit = await asyncio.to_thread(audit_log, settings, control, cleanup)
        found = CredentialLookup(log_parts.grants, credentials)
        routes = [
            *CredentialsPart(found, audit).routes(),
            *metadata.routes(),
            *protection.routes(metadata.task_of, control.task_protection),
            *faults.routes(),
        ]
        requests = TaskRequests(callers, audit, routes)
        servers: list[LocalServer] = [
            *loopback_servers(settings, sockets, log_parts, control, requests),
            *introspection(settings, overview),
        ]
        overview.run_with(
            RunningParts(
                engine=engine,
                control=control,
                networks=networks,
                container_sandboxes=container_sandboxes,
                groups=groups,
                ledger=ledger,
                sampler=sampler,
                runtime=runtime,
                operator=operator,
                logs=log_parts.spool,
                servers=servers,
                drain=drain,
                images=images,
                task_requests=requests.counts,
            )
        )

        async with asyncio.TaskGroup() as group:
            group.create_task(operator.keep(), name="operator socket")
            group.create_task(log_parts.spool.run(), name="log spool")
            for served in servers:
                group.create_task(served.run(), name=served.name)
            group.create_task(engine.run(), name="engine")
            group.create_task(rotate_key(settings, serve_session), name="fleet key")
            group.create_task(networks.run(on_lost=engine.network_lost), name="networks")
            group.create_task(namespaces.run(on_lost=engine.namespaces_lost), name="namespaces")
            group.create_task(
                container_sandboxes.run(on_lost=engine.container_network_lost),
                name="container sandboxes",
            )
            group.create_task(groups.run(runtime.connect), name="control groups")
            group.create_task(control.run(), name="control")
            group.create_task(names.run(), name="names of tasks")
            group.create_task(
                stop_at_deadline(drain, lambda: engine.stop_all(DRAIN_REASON)), name="drain"
            )
            group.create_task(image_parts.cleanup.run(), name="images")
            group.create_task(metadata.run(), name="metadata files")
            if sampler is not None:
                group.create_task(sampler.run(), name="metrics")
            await show_metrics(settings, overview, sampler, group, cleanup)
            cleanup.enter_context(watchdog.holding(control.livenesses))
            if settings.drain_on_shutdown_s:
                leaving = Leaving(
                    running=lambda: len(engine.facts()),
                    unsent=lambda: store.outbox.size,
                    stop_all=lambda: engine.stop_all(DRAIN_REASON),
                )
                serve_session.leave_host = partial(
                    leave_host, drain, leaving, limit_s=settings.drain_on_shutdown_s
                )
            await control.begun.wait()
            _settle_memory()
            cleanup.callback(gc.unfreeze)
            serve_session.settle()
            watchdog.report_soon()
            _log.info("agent started", version=__version__, cluster=settings.cluster)


def _settle_memory() -> None:
    """Return what the start needed to the system, and keep what was loaded out of later collections."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, other libraries do not
    if trim is not None:
        trim(0)
