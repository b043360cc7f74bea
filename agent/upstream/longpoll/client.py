"""The client of our own control endpoint: registers, polls for orders, sends reports and metrics.

::

    run() ─┬─ poll      GET assignments?after=REV ─► take(assignments) durable ─► after = revision
           ├─ outbox    POST changes, in order, one request in flight
           ├─ metrics   POST metrics, newest first, dropped while control is away
           └─ logs      POST logs, in order, one request in flight

Accesses the network and the store. Failures of either are retried for ever with backoff; ``run``
ends only when cancelled, or when a restart could not help (see ``run``). The revision is only in
memory: a new process gets everything and converges.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct, field

from agent.errors import (
    ConfigError,
    ControlFailure,
    ControlUnavailable,
    InstanceUnknown,
    StaleGeneration,
    StateFailure,
    leaves,
)
from agent.model.liveness import WORK_S, Liveness
from agent.upstream.backoff import Backoff, OutageBackoff
from agent.upstream.connection import ConnectionStatus
from agent.upstream.credentials import Token, is_readable_on_the_way
from agent.upstream.draining import DrainTeller
from agent.upstream.longpoll import registration as registrations
from agent.upstream.longpoll.answers import RevisionCompacted
from agent.upstream.longpoll.credentials import issued
from agent.upstream.longpoll.full_report import FullReport
from agent.upstream.longpoll.http_client import CallLimits, HttpClient, parse_endpoint
from agent.upstream.longpoll.log_sender import LogSender
from agent.upstream.longpoll.metrics_sender import MetricsSender
from agent.upstream.longpoll.outbox_sender import OutboxSender
from agent.upstream.longpoll.registration import LongPollRegistration
from agent.upstream.longpoll.task_calls import TaskCalls
from agent.upstream.longpoll.watermark import Watermark, cautious, went_back
from agent.upstream.protocol import ControlStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.metrics import MetricsBatch
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.model.wire import Assignments
    from agent.state import StateStore
    from agent.upstream.draining import Drain
    from agent.upstream.longpoll.answers import ReadAssignments
    from agent.upstream.longpoll.http_client import Identity
    from agent.upstream.longpoll.registration import SavedRegistration
    from agent.upstream.protocol import (
        CredentialStore,
        DescribeHost,
        Holding,
        LogSource,
        TakeAssignments,
    )

_log = structlog.get_logger()

TAKE_LIMIT_S: Final = 180.0
"""Time limit for taking orders, which only have to be written to disk."""

BROUGHT_AGAIN_S: Final = 60.0
"""Interval of calls about tasks of an earlier instance, if control sends no lease."""
NOTICE_S: Final = 3600.0
"""How long the operator is told that control went back to an older state."""


class WentBack(ControlFailure):
    """An answer is from an older state of control than one seen before."""


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
        drain: Drain | None = None,
        saved: SavedRegistration,
        watermark: Watermark,
    ) -> None:
        self.begun = asyncio.Event()
        self._settings = settings
        self._store = store
        self._take = take
        self._credentials = credentials
        self._credentials_serial = 0
        """Of the newest credentials that came; of one run of control, as the revision is."""
        self._liveness = Liveness("control loop")
        self._endpoint = parse_endpoint(settings.endpoint)
        self._link = ConnectionStatus(str(self._endpoint))
        self._outage = OutageBackoff(settings.outage_short_s, settings.backoff_limit_s)
        self._client = HttpClient(
            self._endpoint,
            settings.limits,
            token=Token(file=settings.token_file),
            ca_file=settings.ca_file,
        )
        self._watermark = watermark
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
            watermark=self._watermark,
            retelling=self._retelling,
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
        self._metrics = MetricsSender(self._client, self._registration, self._link, self._backoff())
        self._logs = (
            LogSender(logs, self._client, self._registration, self._link, self._backoff())
            if logs is not None
            else None
        )
        self._drain = DrainTeller(drain, self._own_arn, self._set_status) if drain else None
        self._poll_backoff = self._backoff()
        self._instance_status = ""
        self._trouble = ""
        """Why the last orders could not be taken; empty if they were."""
        self.livenesses: tuple[Liveness, ...] = (self._liveness, self._registration.liveness)

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
    ) -> LongPollClient:
        """Return the client of a host that knows who it was; nobody is called before ``run``.

        Raises:
            ConfigError: the endpoint is none, or the host is registered in another cluster than
                the configured one.
            StateFailure: the store cannot be read.
        """
        return cls(
            settings,
            store,
            describe,
            take,
            holding,
            credentials,
            logs,
            drain=drain,
            saved=await registrations.read_saved(store, settings.cluster),
            watermark=await Watermark.open(store),
        )

    @property
    def status(self) -> ControlStatus:
        """The current state of the connection."""
        return ControlStatus(
            connected=self._link.connected,
            since=self._link.since,
            endpoint=self._link.endpoint,
            error=self._link.error or self._trouble or self._sender.error,
            unsent=self._store.outbox.size,
            instance_arn=self._registration.instance_arn,
            generation=self._registration.generation,
            instance_status=self._instance_status,
            next_try=self._link.next_try,
            connects=self._link.connects,
            notice=self._notice(),
        )

    def _notice(self) -> str:
        at = self._registration.went_back_at
        if not at or time.time() - at > NOTICE_S:
            return ""
        return (
            f"control went back to an older state, as noticed at {time.ctime(at)}: nothing was stopped "
            "because of it, and this host reported everything again"
        )

    def offer(self, batch: MetricsBatch) -> None:
        """Send metrics if control is connected, else drop them; never blocks."""
        self._metrics.offer(batch)

    async def run(self) -> None:
        """Register, fetch orders and send reports until cancelled; the host stays registered.

        Raises:
            ConfigError: the CA file cannot be used.
            StaleGeneration: another agent registered as this instance; this process must stop.
        """
        if self._settings.token_file is not None and is_readable_on_the_way(self._endpoint):
            _log.warning(
                "the token is sent unencrypted: give control a certificate and use https:// in "
                "ECS_CONTROL_ENDPOINT",
                endpoint=str(self._endpoint),
            )
        try:
            async with self._client, asyncio.TaskGroup() as group:
                self.begun.set()
                group.create_task(self._poll(), name="control-poll")
                group.create_task(self._sender.run(), name="control-outbox")
                group.create_task(self._metrics.run(), name="control-metrics")
                group.create_task(self._ask_about_the_rest(), name="control-brought")
                if self._logs is not None:
                    group.create_task(self._logs.run(), name="control-logs")
                if self._drain is not None:
                    group.create_task(self._drain.run(), name="control-drain")
        except BaseExceptionGroup as failures:
            final, _ = failures.split((ConfigError, StaleGeneration))
            if final is None:
                raise
            raise next(leaves(final)) from None

    async def _own_arn(self) -> str:
        return (await self._registration.identity()).instance_arn

    async def _set_status(self, status: str) -> str:
        await self._client.status(await self._registration.identity(), status)
        self._instance_status = status
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

    async def leave(self) -> None:
        """Remove the host from its cluster and forget its identity.

        Only on request, and after ``run`` has ended, which would register again. Succeeds if
        control does not know the host.

        Raises:
            ControlFailure: control did not confirm it; the identity is kept.
            StateFailure: the store cannot be read or written.
        """
        identity = self._registration.current or await registrations.saved_identity(self._store)
        if identity is not None:
            async with self._client:
                try:
                    await self._client.leave(identity)
                except InstanceUnknown:
                    _log.info("control does not know this host", instance=identity.instance_arn)
        await registrations.forget(self._store)
        _log.info("host left its cluster", cluster=self._settings.cluster)

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.backoff_first_s, self._settings.backoff_limit_s)

    async def _pause(self, seconds: float) -> None:
        """Pause the poll loop, recording when it continues; the other loops pause by ``link``."""
        self._link.try_in(seconds)
        with self._liveness.within(seconds + WORK_S, "waiting before the next try"):
            await self._link.pause(seconds)

    async def _renew(self, used: Identity | None) -> None:
        with self._liveness.resting("waiting for a registration"):
            await self._registration.renew(used)

    async def _poll(self) -> None:
        await self._renew(None)
        identity = await self._registration.identity()
        loop = asyncio.get_running_loop()
        after = 0
        while True:
            newest = await self._registration.identity()
            if newest is not identity:
                # The new registration may be with another store with other revision numbers.
                identity, after = newest, 0
            began = loop.time()
            try:
                after = await self._poll_once(identity, after)
            except InstanceUnknown as error:
                self._link.down(error)
                await self._pause(self._poll_backoff.next_s())
                await self._renew(identity)
            except WentBack as error:
                self._link.down(error)
                await self._pause(self._poll_backoff.next_s())
                await self._ask_again(identity)
            except StaleGeneration as error:
                with self._liveness.resting("waiting for a registration"):
                    await self._registration.overtaken(identity, error)
            except ControlFailure as error:
                if isinstance(error, RevisionCompacted) and after:
                    after = 0
                    # After a restart of control all agents need everything: spread them over time,
                    # and never loop without a pause.
                    await self._pause(self._poll_backoff.next_s())
                    continue
                self._link.down(error)
                await self._pause(self._wait_after(error, took_s=loop.time() - began))

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

    async def _ask_again(self, identity: Identity) -> None:
        """Register again, so that control compares the watermark; its answer decides."""
        await self._renew(identity)
        newest = await self._registration.identity()
        if newest.history:
            self._watermark.begin(newest.control_id, newest.history)

    def _wait_after(self, error: ControlFailure, *, took_s: float) -> float:
        """Return how long to wait after control was unavailable or answered with an error."""
        asked_s = error.retry_after_s if isinstance(error, ControlUnavailable) else 0.0
        if isinstance(error, ControlUnavailable) and error.away:
            return self._outage.next_s(asked_s, took_s=took_s)
        self._outage.over()
        return self._poll_backoff.next_s(asked_s)

    async def _poll_once(self, identity: Identity, after: int) -> int:
        """Make one poll and pass its orders on; return the revision to poll after next."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        wait_s = self._wait_s(identity)
        with self._liveness.within(self._settings.limits.call_s + wait_s + WORK_S, "polling"):
            read = await self._client.assignments(
                identity,
                after=after,
                wait_s=wait_s,
                credentials_after=self._credentials_serial if after else 0,
            )
        self._link.up()
        self._outage.over()
        took_s = loop.time() - began
        if read is None:
            await self._pace(took_s, wait_s)
            return after
        _log_troubles(read)
        orders = read.assignments
        if orders.revision < after and not orders.full:
            _log.warning("control went back in time", revision=orders.revision, after=after)
            await self._pause(self._poll_backoff.next_s())
            return 0
        why = went_back(self._watermark.seen, identity.control_id, orders)
        if why and orders.history:
            raise WentBack(f"control went back in time: {why}")
        if why:
            _log.warning("control went back in time; its stops are ignored", reason=why)
            orders = cautious(orders)
        # Before the orders: what they start may need them at once.
        for each in issued(orders):
            self._credentials.keep(each.task_arn, each.role_type, each.credentials)
        if not await self._hand_on(orders, identity):
            return after
        self._credentials_serial = orders.credentials_serial
        if not why:
            self._watermark.taken(identity.control_id, orders)
        if orders.revision == after:
            await self._pace(took_s, wait_s)
        else:
            self._poll_backoff.reset()
        return orders.revision

    def _wait_s(self, identity: Identity) -> float:
        """Return how long a poll may be held: less than the lease, which it renews.

        The first one after a failure is not held, so that its answer shows at once that control is
        back.
        """
        if not self._link.connected:
            return 0.0
        if identity.lease_s <= 0:
            return self._settings.wait_s
        return min(self._settings.wait_s, max(1.0, identity.lease_s / 2))

    async def _pace(self, took_s: float, wait_s: float) -> None:
        """Slow down if control answers at once without news, instead of polling in a tight loop."""
        if took_s < min(1.0, wait_s / 2):
            await self._pause(self._poll_backoff.next_s())
        else:
            self._poll_backoff.reset()

    async def _hand_on(self, orders: Assignments, identity: Identity) -> bool:
        """Pass the orders to the engine; False if it could not take them, and they come again."""
        try:
            with self._liveness.within(TAKE_LIMIT_S, "taking orders"):
                await self._take(orders, identity.control_id, identity.instance_arn)
        except StateFailure as error:
            # The store has logged it.
            self._trouble = f"orders could not be taken: {error}"
        except Exception as error:  # noqa: BLE001 - no order may end the agent
            told = f"{type(error).__name__}: {error}"
            _log.error(
                "orders could not be taken", revision=orders.revision, error=told, at=_trace(error)
            )
            self._trouble = f"orders could not be taken: {told}"
        else:
            self._trouble = ""
            self._instance_status = orders.instance_status
            return True
        await self._pause(self._poll_backoff.next_s())
        return False


def _log_troubles(read: ReadAssignments) -> None:
    if read.troubles:
        _log.error(
            "orders could not be read",
            revision=read.assignments.revision,
            count=len(read.troubles),
            first=read.troubles[0],
        )


def _trace(error: BaseException) -> list[str]:
    """Return where an error came from, innermost last. Reads no source files: that would block."""
    return [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
