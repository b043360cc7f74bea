"""Amazon ECS as control: creates every part of the client and runs them in one TaskGroup.

::

    run() ─┬─ registration   RegisterContainerInstance, until it works
           ├─ orders         ACS: payloads ─► take() durable ─► ack
           ├─ reports        the outbox ─► Submit*StateChange, in order for each task
           ├─ telemetry      TCS: metrics, health, instance status
           ├─ attachments    what ECS attaches to the host: seen, reported, expired
           └─ spot notices   if enabled

Accesses the network through ``agent.aws``, and the store. Failures of either are retried for ever
with backoff; ``run`` ends only when cancelled, or when a restart could not help.

Tests: ``tests/integration/ecs/test_life.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent import __version__
from agent.errors import (
    ConfigError,
    ControlFailure,
    PayloadError,
    RegistrationRefused,
    leaves,
)
from agent.upstream.amazon import registration as registrations
from agent.upstream.amazon.acs.session import AcsParts, AcsSession, AcsSettings
from agent.upstream.amazon.attachments import Attachments, read_rows
from agent.upstream.amazon.calls import SteppedBackoff
from agent.upstream.amazon.ec2.spot import SpotNotices, set_status
from agent.upstream.amazon.ec2.tags import InstanceTags
from agent.upstream.amazon.poll_endpoint import PollEndpoints
from agent.upstream.amazon.protection import ProtectionApi
from agent.upstream.amazon.registration import AmazonRegistration, RegistrationSettings
from agent.upstream.amazon.resource_tags import resource_tags
from agent.upstream.amazon.submit.sender import SubmitSettings, Submitter
from agent.upstream.amazon.tcs.session import TcsSession, TcsSettings
from agent.upstream.amazon.websocket import Dialer
from agent.upstream.connection import ConnectionStatus
from agent.upstream.draining import DrainTeller
from agent.upstream.protocol import ControlStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.aws.cloud import Cloud
    from agent.config import Settings
    from agent.model.liveness import Liveness
    from agent.model.metrics import MetricsBatch
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.state import StateStore
    from agent.upstream.amazon.attachments import AttachmentState
    from agent.upstream.protocol import DescribeHost, HostParts, TakeAssignments

AGENT_HASH: Final = "00000000"
"""Amazon ECS expects a commit hash; our packages are made from releases, which have a version."""
ACTIVE: Final = "ACTIVE"
DRAINING: Final = "DRAINING"

_log = structlog.get_logger()


class Saved(NamedTuple):
    """What an earlier process left."""

    instance_arn: str
    """Of this host as a container instance; empty until it is one."""
    attachments: list[AttachmentState]


class AmazonClient:
    """A host's connection to Amazon ECS. Create it on the event loop that runs it."""

    def __init__(
        self,
        settings: Settings,
        cloud: Cloud,
        store: StateStore,
        describe: DescribeHost,
        take: TakeAssignments,
        around: HostParts,
        *,
        saved: Saved,
    ) -> None:
        self.begun = asyncio.Event()
        self._store = store
        self._instance_status = ""
        engine_version = describe().resources.engine_version
        api = cloud.ecs(override=settings.backend_host)
        self._link = ConnectionStatus(str(api.endpoint))
        imds = None if settings.external else cloud.imds
        tags = settings.propagate_tags_from == "ec2_instance"
        self._registration = AmazonRegistration(
            _registration_settings(settings),
            store,
            api,
            imds,
            describe,
            self._link,
            SteppedBackoff(3.0, 192.0),
            saved_arn=saved.instance_arn,
            instance_tags=InstanceTags(imds, cloud.ec2()) if tags else None,
        )
        endpoints = PollEndpoints(api, self._registration.cluster)
        signer = cloud.signer("ecs")
        dialer = Dialer(cloud.http, cloud.chain, signer)
        self._attachments = Attachments(
            store,
            saved.attachments,
            links=around.links,
            disks=around.disks,
            knows=around.host.knows,
        )
        self._submitter = Submitter(
            store.outbox,
            api,
            self._registration,
            self._link,
            SubmitSettings(exclude_ipv6=settings.exclude_ipv6_port_binding),
        )
        self._tcs = TcsSession(
            TcsSettings(
                agent_version=__version__,
                agent_hash=AGENT_HASH,
                docker_version=engine_version,
                metrics=not settings.disable_metrics,
                health=not settings.disable_health_check,
                sample_s=settings.metrics_interval_s,
            ),
            dialer,
            cloud.chain,
            signer,
            self._registration,
            endpoints,
            around.host,
        )
        self._acs = AcsSession(
            AcsSettings(
                agent_version=__version__,
                agent_hash=AGENT_HASH,
                docker_version=engine_version,
            ),
            AcsParts(
                dialer=dialer,
                instance=self._registration.instance,
                endpoint=endpoints.acs,
                link=self._link,
                take=take,
                host=around.host,
                keep=around.credentials,
                expect=self._attachments.expect,
                store=store,
                on_inactive=self._tcs.drop,
                on_heartbeat=self._tcs.heartbeat,
            ),
        )
        self._api = api
        self._protection = ProtectionApi(
            cloud,
            around.credentials,
            cluster=self._registration.cluster,
            backend_host=settings.backend_host,
        )
        self._drain = (
            DrainTeller(around.drain, self._own_arn, self._set_status) if around.drain else None
        )
        self._spot: SpotNotices | None = None
        if settings.spot_draining and imds is not None and imds.enabled:
            self._spot = SpotNotices(imds, api, self._registration.instance, self._draining)
        parts = (self._registration, self._tcs, self._attachments, self._spot)
        self.livenesses: tuple[Liveness, ...] = (
            *self._acs.livenesses,
            *(part.liveness for part in parts if part is not None),
        )

    @classmethod
    async def open(
        cls,
        settings: Settings,
        cloud: Cloud,
        store: StateStore,
        describe: DescribeHost,
        take: TakeAssignments,
        around: HostParts,
    ) -> AmazonClient:
        """Return the client of a host that knows who it was; nobody is called before ``run``.

        Raises:
            ConfigError: the host is registered in another cluster than the configured one.
            StateFailure: the store cannot be read.
        """
        return cls(
            settings,
            cloud,
            store,
            describe,
            take,
            around,
            saved=Saved(
                await registrations.read_saved_arn(store, settings.cluster), await read_rows(store)
            ),
        )

    @property
    def status(self) -> ControlStatus:
        """The current state of the connection."""
        connected = self._link.connected
        return ControlStatus(
            connected=connected,
            since=self._link.since,
            endpoint=self._link.endpoint,
            error=self._link.error or self._acs.trouble or self._submitter.error,
            unsent=self._store.outbox.size,
            instance_arn=self._registration.instance_arn,
            generation=0,
            instance_status=self._instance_status or (ACTIVE if connected else ""),
            next_try=self._link.next_try,
            connects=self._link.connects,
        )

    def offer(self, batch: MetricsBatch) -> None:
        """Take metrics for telemetry; never blocks."""
        self._tcs.offer(batch)

    async def run(self) -> None:
        """Register, fetch orders and send reports until cancelled; the host stays registered.

        Raises:
            ConfigError: the host's description of itself is not valid.
            RegistrationRefused: Amazon ECS refuses this host as it is.
        """
        self.begun.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._registration.run(), name="ecs-registration")
                group.create_task(self._acs.run(), name="ecs-orders")
                group.create_task(self._submitter.run(), name="ecs-reports")
                group.create_task(self._tcs.run(), name="ecs-telemetry")
                group.create_task(self._attachments.run(), name="ecs-attachments")
                if self._drain is not None:
                    group.create_task(self._drain.run(), name="ecs-drain")
                if self._spot is not None:
                    group.create_task(self._spot.run(), name="ecs-spot")
        except BaseExceptionGroup as failures:
            final, _ = failures.split((ConfigError, RegistrationRefused))
            if final is None:
                raise
            raise next(leaves(final)) from None

    async def _own_arn(self) -> str:
        return (await self._registration.instance()).arn

    async def _set_status(self, status: str) -> str:
        """Have Amazon ECS set the status of this instance; return why it did not."""
        trouble = await set_status(self._api, await self._registration.instance(), status)
        if not trouble:
            self._instance_status = status
        return trouble

    async def make_log_stream(self, group: str, stream: str, *, create_group: bool) -> bool:
        """Return True: Amazon ECS keeps no logs."""
        del group, stream, create_group
        return True

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        """Refuse: no order of Amazon ECS names a secret of this kind.

        Raises:
            PayloadError: always.
        """
        raise PayloadError(
            f"task {task_arn} names secrets that a control endpoint of its own keeps "
            f"({', '.join(names)}), but this host has its orders in the words of Amazon ECS, which "
            "has no such secrets; join the host with 'ecs-agent join', or keep them in AWS"
        )

    async def tags(self, resource_arn: str) -> Mapping[str, str]:
        """Return the tags that a task of this host, or its container instance, has now.

        Raises:
            AwsFailure: Amazon ECS cannot be asked now, or refuses.
        """
        return await resource_tags(self._api, resource_arn)

    async def task_protection(self, asked: ProtectionCall) -> ProtectionOutcome:
        """Return the scale-in protection of a task, changed first if the call says so.

        Raises:
            EcsRefused: the task has no role, or Amazon ECS answered with an error.
            ControlUnavailable: it cannot be asked now.
        """
        return await self._protection.ask(asked)

    async def leave(self) -> None:
        """Refuse: a host does not deregister itself from Amazon ECS.

        Raises:
            ControlFailure: always; the text says who can. Source: Amazon ECS agent 1.105.1, which
                never calls DeregisterContainerInstance.
        """
        arn = self._registration.instance_arn or "ARN"
        raise ControlFailure(
            "a host does not deregister itself from Amazon ECS; run 'aws ecs "
            f"deregister-container-instance --cluster {self._registration.cluster} "
            f"--container-instance {arn} --force'"
        )

    async def close(self) -> None:
        """Do nothing: the connections belong to the ``Cloud`` that it was given."""

    def _draining(self, text: str) -> None:
        _log.warning("this instance will be reclaimed: it is draining", notice=text)
        self._instance_status = DRAINING


def _registration_settings(settings: Settings) -> RegistrationSettings:
    return RegistrationSettings(
        cluster=settings.cluster,
        cluster_given=settings.cluster_given,
        custom_attributes=settings.instance_attributes,
        warm_pools_check=settings.warm_pools_check,
    )
