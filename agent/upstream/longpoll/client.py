"""The client of our own control endpoint: registers, polls for orders, sends reports and usage.

::

    run() ─┬─ poll      GET assignments, held until there are new ones (``order_poll``)
           ├─ outbox    POST changes, in order, one request in flight
           ├─ usage     POST usage every 20 s, dropped while control is away
           └─ logs      POST logs, in order, one request in flight

Accesses the network and the store. Failures of either are retried for ever with backoff; ``run``
ends only when cancelled, or when a restart could not help (see ``run``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct, field

from agent.errors import (
    ConfigError,
    ControlFailure,
    InstanceUnknown,
    StaleGeneration,
    leaves,
)
from agent.upstream.backoff import Backoff, OutageBackoff
from agent.upstream.certificates.host import HostCertificate
from agent.upstream.connection import ConnectionStatus
from agent.upstream.credentials import Token, is_readable_on_the_way
from agent.upstream.draining import DrainTeller
from agent.upstream.longpoll import registration as registrations
from agent.upstream.longpoll.exchange import CallLimits, parse_endpoint
from agent.upstream.longpoll.full_report import FullReport
from agent.upstream.longpoll.http_client import HttpClient
from agent.upstream.longpoll.log_sender import LogSender
from agent.upstream.longpoll.order_poll import OrderPoll
from agent.upstream.longpoll.outbox_sender import OutboxSender
from agent.upstream.longpoll.registration import LongPollRegistration
from agent.upstream.longpoll.task_calls import TaskCalls
from agent.upstream.longpoll.usage_sender import SEND_S, UNKNOWN_S, UsageSender
from agent.upstream.longpoll.watermark import Watermark
from agent.upstream.protocol import ControlStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.model.liveness import Liveness
    from agent.model.metrics import MetricsBatch
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.model.wire import CommandOrder
    from agent.state import StateStore
    from agent.upstream.draining import Drain
    from agent.upstream.longpoll.commands import Commands
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.registration import SavedRegistration
    from agent.upstream.protocol import (
        CommandHost,
        CredentialStore,
        DescribeHost,
        Holding,
        LogSource,
        TakeAssignments,
    )

_log = structlog.get_logger()

BROUGHT_AGAIN_S: Final = 60.0
"""Interval of calls about tasks of an earlier instance, if control sends no lease."""
NOTICE_S: Final = 3600.0
"""How long the operator is told that control went back to an older state."""


class LongPollSettings(Struct, frozen=True, kw_only=True):
    """Where control is, and the client's time limits."""

    endpoint: str
    """``http://...`` or ``https://...``."""
    cluster: str
    """Name or ARN."""
    token_file: Path | None = None
    """File with the token for control; None if control requires none."""
    ca_file: Path | None = None
    """PEM file with a CA to trust besides the system's."""
    wait_s: float = 30.0
    """How long control may hold a poll if there is no news."""
    backoff_first_s: float = 0.25
    backoff_limit_s: float = 30.0
    """First and longest wait before the next try while control answers with errors."""
    outage_short_s: float = 2.0
    """Longest wait before the next try in an outage of up to a minute; see
    ``backoff.OutageBackoff``."""
    batch_limit: int = 100
    """Reports per request."""
    data_dir: Path | None = None
    """Where the certificate of this host is kept; None for a host that has none."""
    usage_s: float = SEND_S
    """Interval of messages about what tasks use."""
    usage_again_s: float = UNKNOWN_S
    """When a control that does not know that message gets it again."""
    limits: CallLimits = field(default_factory=CallLimits)


class LongPollClient:
    """A host's connection to one control endpoint. Create it on the event loop that runs it."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        settings: LongPollSettings,
        store: StateStore,
        describe: DescribeHost,
        take: TakeAssignments,
        holding: Holding,
        credentials: CredentialStore,
        logs: LogSource | None = None,
        *,
        client: HttpClient,
        certificate: HostCertificate | None = None,
        drain: Drain | None = None,
        commands: CommandHost | None = None,
        saved: SavedRegistration,
        watermark: Watermark,
    ) -> None:
        """Take what ``open`` made and read."""
        self.begun = asyncio.Event()
        self._settings = settings
        self._store = store
        self._link = ConnectionStatus(str(client.endpoint))
        self._outage = OutageBackoff(settings.outage_short_s, settings.backoff_limit_s)
        self._client = client
        self._certificate = certificate
        self._retelling = FullReport(self._client, holding, store)
        self._registration = LongPollRegistration(
            settings.cluster,
            store,
            self._client,
            describe,
            self._link,
            self._backoff(),
            self._outage,
            saved=saved,
            watermark=watermark,
            retelling=self._retelling,
            certificate=certificate,
            call_limit_s=settings.limits.call_s,
        )
        self._task_calls = TaskCalls(self._client, self._registration)
        self._sender = OutboxSender(
            store.outbox,
            self._client,
            self._registration,
            self._link,
            self._backoff(),
            batch_limit=settings.batch_limit,
        )
        self._usage = UsageSender(
            self._client,
            self._registration,
            self._link,
            send_s=settings.usage_s,
            unknown_s=settings.usage_again_s,
        )
        self._logs = (
            LogSender(logs, self._client, self._registration, self._link, self._backoff())
            if logs is not None
            else None
        )
        self._command_host = commands
        self._commands: Commands | None = None
        self._group: asyncio.TaskGroup | None = None
        self._drain = DrainTeller(drain, self._own_arn, self._set_status) if drain else None
        self._orders = OrderPoll(
            self._client,
            self._registration,
            self._link,
            self._backoff(),
            self._outage,
            watermark=watermark,
            take=take,
            credentials=credentials,
            start_commands=self._start_commands,
            wait_s=settings.wait_s,
            call_limit_s=settings.limits.call_s,
        )
        self.livenesses: tuple[Liveness, ...] = (
            self._orders.liveness,
            self._registration.liveness,
        )

    @classmethod
    async def open(  # noqa: PLR0913 - as above
        cls,
        settings: LongPollSettings,
        store: StateStore,
        describe: DescribeHost,
        take: TakeAssignments,
        holding: Holding,
        credentials: CredentialStore,
        logs: LogSource | None = None,
        *,
        drain: Drain | None = None,
        commands: CommandHost | None = None,
    ) -> LongPollClient:
        """Return the client of a host that knows who it was; nobody is called before ``run``.

        Raises:
            ConfigError: the endpoint is invalid, the CA file cannot be used, or the host is registered
                in another cluster than the configured one.
            StateFailure: the store cannot be read.
        """
        endpoint = parse_endpoint(settings.endpoint)
        saved = await registrations.read_saved(store, settings.cluster)
        watermark = await Watermark.open(store)
        certificate = None
        if settings.data_dir is not None and endpoint.scheme == "https":
            certificate = await HostCertificate.open(settings.data_dir, str(endpoint))
        client = await HttpClient.open(
            endpoint,
            settings.limits,
            token=Token(file=settings.token_file),
            ca_file=settings.ca_file,
            certificate=certificate,
        )
        client.host_key = await store.get_meta(registrations.HOST_KEY) or ""
        return cls(
            settings,
            store,
            describe,
            take,
            holding,
            credentials,
            logs,
            client=client,
            certificate=certificate,
            drain=drain,
            commands=commands,
            saved=saved,
            watermark=watermark,
        )

    async def close(self) -> None:
        """Close all connections; only after ``run`` has ended. Idempotent."""
        await self._client.close()

    @property
    def status(self) -> ControlStatus:
        """The current state of the connection."""
        return ControlStatus(
            connected=self._link.connected,
            since=self._link.since,
            endpoint=self._link.endpoint,
            error=self._link.error or self._orders.trouble or self._sender.error,
            unsent=self._store.outbox.size,
            instance_arn=self._registration.instance_arn,
            generation=self._registration.generation,
            instance_status=self._orders.instance_status,
            next_try=self._link.next_try,
            connects=self._link.connects,
            notice=self._notice(),
        )

    def _notice(self) -> str:
        if self._certificate is not None and self._certificate.trouble:
            return self._certificate.trouble
        at = self._registration.went_back_at
        if not at or time.time() - at > NOTICE_S:
            return ""
        return (
            f"control went back to an older state, as noticed at {time.ctime(at)}: nothing was stopped "
            "because of it, and this host reported everything again"
        )

    def offer(self, batch: MetricsBatch) -> None:
        """Gather a round of samples, for the next message to control; never blocks."""
        self._usage.offer(batch)

    async def run(self) -> None:
        """Register, fetch orders and send reports until cancelled; the host stays registered.

        Raises:
            StaleGeneration: another agent registered as this instance; this process must stop.
        """
        if self._settings.token_file is not None and is_readable_on_the_way(self._client.endpoint):
            _log.warning(
                "the token is sent unencrypted: give control a certificate and use https:// in "
                "ECS_CONTROL_ENDPOINT",
                endpoint=str(self._client.endpoint),
            )
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.begun.set()
                group.create_task(self._orders.run(), name="control-poll")
                group.create_task(self._sender.run(), name="control-outbox")
                group.create_task(self._usage.run(), name="control-usage")
                group.create_task(self._ask_about_the_rest(), name="control-brought")
                if self._certificate is not None:
                    group.create_task(
                        self._certificate.run(self._client), name="control-certificate"
                    )
                if self._logs is not None:
                    group.create_task(self._logs.run(), name="control-logs")
                if self._drain is not None:
                    group.create_task(self._drain.run(), name="control-drain")
        except BaseExceptionGroup as failures:
            final, _ = failures.split((ConfigError, StaleGeneration))
            if final is None:
                raise
            raise next(leaves(final)) from None

    async def _start_commands(self, identity: Identity, orders: Sequence[CommandOrder]) -> None:
        """Connect for sessions with commands in containers; loads what that needs at the first."""
        if self._command_host is None or self._group is None:
            return
        if self._commands is None:
            from agent.upstream.longpoll.commands import Commands  # noqa: PLC0415 - see above

            self._commands = Commands(self._client, self._command_host, self._group)
        self._commands.take(identity, orders)

    async def _own_arn(self) -> str:
        return (await self._registration.identity()).instance_arn

    async def _set_status(self, status: str) -> str:
        await self._client.status(await self._registration.identity(), status)
        self._orders.instance_status = status
        return ""

    async def make_log_stream(self, group: str, stream: str, *, create_group: bool) -> bool:
        """Have control make a log stream; True at once while control does not answer."""
        if self._logs is None:
            return True
        return await self._logs.make_stream(group, stream, create_group=create_group)

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        """Return the values that control keeps for a task of this host, by their names.

        Raises:
            PayloadError: control does not have one of them, or not for this task.
            ControlUnavailable: control cannot be asked now.
        """
        return await self._task_calls.secrets(task_arn, names)

    async def task_protection(self, asked: ProtectionCall) -> ProtectionOutcome:
        """Return the scale-in protection of a task of this host, changed first if asked for.

        Raises:
            EcsRefused: control refuses what is asked for.
            ControlUnavailable: control cannot be asked now.
        """
        return await self._task_calls.protection(asked)

    async def tags(self, resource_arn: str) -> Mapping[str, str]:
        """Return the tags that a task of this host, or its container instance, has now.

        Raises:
            ControlFailure: control cannot be asked now, or does not tell.
        """
        return await self._client.tags(await self._registration.identity(), resource_arn)

    async def leave(self) -> None:
        """Remove the host from its cluster and forget its identity.

        Only on request, and after ``run`` has ended, which would register again. Succeeds if
        control does not know the host.

        Raises:
            ControlFailure: control did not confirm it; the identity is kept.
            StateFailure: the store cannot be read or written.
        """
        identity = self._registration.current
        if identity is None and await registrations.saved_identity(self._store) is not None:
            # Only a process that has registered may speak for the host.
            identity = await self._registration.once()
        if identity is not None:
            try:
                await self._client.leave(identity)
            except InstanceUnknown:
                _log.info("control does not know this host", instance=identity.instance_arn)
        await registrations.forget(self._store)
        _log.info("host left its cluster", cluster=self._settings.cluster)

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.backoff_first_s, self._settings.backoff_limit_s)

    async def _ask_about_the_rest(self) -> None:
        """Ask again about undecided tasks of an earlier instance, until all are decided.

        Mostly they belong to the instance that this host was, which counts as connected for a
        while.
        """
        while True:
            await self._retelling.left.wait()
            identity = await self._registration.identity()
            await asyncio.sleep(identity.lease_s or BROUGHT_AGAIN_S)
            with contextlib.suppress(ControlFailure):  # the poll reports it
                await self._retelling.bring(await self._registration.identity())
