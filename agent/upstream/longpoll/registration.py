"""The registration of this host with control: stored, and renewed when control asks for it.

Every call of the client includes the identity of the newest registration. A loop that learns that
it is no longer valid passes the identity that failed, and waits here. Only one registration runs
at a time, and the failure of an identity that was already replaced has no effect.

::

    InstanceUnknown  ─► renew(used)      ─► register again, unless somebody already did
    StaleGeneration  ─► overtaken(used)  ─► ours is newer: go on; else raise: another agent took over

Tests: ``tests/unit/upstream/longpoll/test_client.py``,
``tests/unit/upstream/test_real_endpoint.py``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.errors import (
    AgentError,
    ConfigError,
    ControlUnavailable,
    InstanceUnknown,
    StaleGeneration,
    StateFailure,
)
from agent.model import ids
from agent.model.liveness import WORK_S, Liveness
from agent.model.wire import Register
from agent.state import Batch
from agent.upstream.certificates.key_pair import LIMIT_S as KEY_PAIR_S
from agent.upstream.longpoll.exchange import CallLimits, Identity

if TYPE_CHECKING:
    from agent.model.wire import Registered
    from agent.state import StateStore
    from agent.upstream.backoff import Backoff, OutageBackoff
    from agent.upstream.certificates.host import HostCertificate
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.full_report import FullReport
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.watermark import Watermark
    from agent.upstream.protocol import DescribeHost

_log = structlog.get_logger()

TOKEN: Final = "clientToken"  # noqa: S105 - the name; the client token itself is not secret
HOST_KEY: Final = "hostKey"
CLUSTER: Final = "cluster"
TELL_LIMIT_S: Final = 300.0
"""Time limit for reporting everything again."""
INSTANCE: Final = "instanceArn"
GENERATION: Final = "generation"
CONTROL: Final = "controlId"


class SavedRegistration(NamedTuple):
    """What an earlier process saved of its registration."""

    instance_arn: str = ""
    """Empty where this host was never registered."""
    generation: int = 0


async def read_saved(store: StateStore, cluster: str) -> SavedRegistration:
    """Return what was saved.

    Args:
        store: the state of this host.
        cluster: name or ARN of the configured cluster.

    Raises:
        ConfigError: the host was registered into another cluster than the configured one.
        StateFailure: the store cannot be read.
    """
    configured = ids.cluster_name(cluster)
    was = await store.get_meta(CLUSTER)
    if was and was != configured:
        raise ConfigError(
            f"ECS_CLUSTER is {configured!r}, but this host is registered in {was!r}"
            f" ({store.path}): set ECS_CLUSTER={was}, or remove the host from that"
            f" cluster and delete that file and the one ending in .identity, to register anew"
        )
    saved = await saved_identity(store)
    return SavedRegistration(
        instance_arn=await store.get_meta(INSTANCE) or "",
        generation=saved.generation if saved is not None else 0,
    )


async def saved_identity(store: StateStore) -> Identity | None:
    """Return the identity of the last saved registration; None if there is none.

    Raises:
        StateFailure: the store cannot be read.
    """
    arn = await store.get_meta(INSTANCE)
    generation = await store.get_meta(GENERATION)
    if not arn or not generation or not generation.isascii() or not generation.isdecimal():
        return None
    control_id = await store.get_meta(CONTROL) or ""
    return Identity(instance_arn=arn, generation=int(generation), control_id=control_id)


async def forget(store: StateStore) -> None:
    """Forget the host's identity, durably; the next registration creates a new instance."""
    batch = Batch()
    for key in (TOKEN, HOST_KEY, CLUSTER, INSTANCE, GENERATION, CONTROL):
        batch.delete_meta(key)
    await store.commit(batch)


class LongPollRegistration:
    """The registration of one host with one control endpoint."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        cluster: str,
        store: StateStore,
        client: HttpClient,
        describe: DescribeHost,
        link: ConnectionStatus,
        backoff: Backoff,
        outage: OutageBackoff,
        *,
        saved: SavedRegistration,
        watermark: Watermark,
        retelling: FullReport,
        certificate: HostCertificate | None = None,
        call_limit_s: float = CallLimits().call_s,
    ) -> None:
        # Three calls: for a certificate, with the known ARN, without it.
        self._try_limit_s = 3 * call_limit_s + KEY_PAIR_S + WORK_S
        self.liveness = Liveness("registration")
        """Set while a registration is under way; loops that wait for it have no deadline."""
        self._cluster = ids.cluster_name(cluster)
        self._store = store
        self._client = client
        self._describe = describe
        self._link = link
        self._backoff = backoff
        self._outage = outage
        self._lock = asyncio.Lock()
        self._registered = asyncio.Event()
        self._process_id = uuid.uuid4().hex
        self._current: Identity | None = None
        self._saved = saved
        self._watermark = watermark
        self._retelling = retelling
        self._certificate = certificate
        self.went_back_at = 0.0
        """Unix time at which it was noticed that control went back; 0 for never."""

    @property
    def instance_arn(self) -> str:
        """ARN of the newest registration, including a saved one; empty if there is none."""
        return self._current.instance_arn if self._current else self._saved.instance_arn

    @property
    def generation(self) -> int:
        """Generation of this process's newest registration; 0 before the first."""
        return self._current.generation if self._current else 0

    @property
    def current(self) -> Identity | None:
        """The newest identity of this process; None before the first registration."""
        return self._current

    async def identity(self) -> Identity:
        """Return the newest identity; waits for the first registration."""
        while self._current is None:
            await self._registered.wait()
        return self._current

    async def renew(self, used: Identity | None) -> None:
        """Register, unless it was already done since ``used`` was current. Retries until it works.

        Raises:
            StaleGeneration: control refuses this host permanently.
        """
        async with self._lock:
            if self._current is not used:
                return
            try:
                await self._until_registered()
            finally:
                self.liveness.rest()

    async def once(self) -> Identity:
        """Register now, with one try; for what is done without ``run``.

        Raises:
            ControlFailure: control does not answer, or refuses this host.
            StateFailure: the store cannot be read or written.
        """
        async with self._lock:
            self._current, _ = await self._register()
            return self._current

    async def _until_registered(self) -> None:
        while True:
            try:
                with self.liveness.within(self._try_limit_s, "registering"):
                    identity, has_to_tell = await self._register()
                if has_to_tell:
                    await self._tell_again(identity)
                with self.liveness.within(TELL_LIMIT_S, "asking about tasks from before"):
                    await self._retelling.bring(identity)
                self._current = identity
            except StaleGeneration:
                raise
            except AgentError as error:
                self._link.down(error)
                pause_s = self._wait_after(error)
                self._link.try_in(pause_s)
                with self.liveness.within(pause_s + WORK_S, "waiting to register again"):
                    await self._link.pause(pause_s)
            else:
                self._backoff.reset()
                self._outage.over()
                self._registered.set()
                self._link.up()
                return

    def _wait_after(self, error: AgentError) -> float:
        if isinstance(error, ControlUnavailable) and error.away:
            return self._outage.next_s(error.retry_after_s)
        return self._backoff.next_s(_asked_s(error))

    async def overtaken(self, used: Identity, error: StaleGeneration) -> None:
        """Return if a newer registration of ours has replaced ``used``; else raise ``error``."""
        async with self._lock:
            if self._current is used:
                raise error

    async def _tell_again(self, identity: Identity) -> None:
        """Report what is held, before any loop polls or sends a report with this registration.

        Raises:
            ControlFailure: control did not take all of it; register again.
            StateFailure: likewise.
        """
        _log.error(
            "control went back to an older state: nothing is stopped because of it, and this host "
            "reports everything again",
            instance=identity.instance_arn,
        )
        self.went_back_at = time.time()
        with self.liveness.within(TELL_LIMIT_S, "reporting everything again"):
            await self._retelling.tell(identity)
        self._watermark.begin(identity.control_id, identity.history)

    async def _register(self) -> tuple[Identity, bool]:
        """Return the new identity, and whether control wants to know what this host holds."""
        token = await self._token()
        if self._certificate is not None:
            await self._certificate.ensure(self._client)
        self._client.host_key = await self._host_key()
        arn = self.instance_arn
        try:
            answer = await self._client.register(self._body(token, arn))
        except InstanceUnknown:
            # Control lost this instance, or is another control.
            answer = await self._register_anew(token)
        identity = Identity(
            instance_arn=answer.instance_arn,
            generation=answer.generation,
            control_id=answer.control_id,
            lease_s=answer.lease_s,
            history=answer.history,
            session=answer.session,
        )
        _log.info(
            "host registered",
            instance=answer.instance_arn,
            cluster=self._cluster,
            generation=answer.generation,
            was=arn if arn != answer.instance_arn else "",
        )
        await self._save(identity)
        return identity, answer.went_back

    async def _register_anew(self, token: str) -> Registered:
        try:
            return await self._client.register(self._body(token, ""))
        except InstanceUnknown as error:
            raise ControlUnavailable(f"control refuses a new instance: {error}") from None

    def _body(self, token: str, arn: str) -> Register:
        host = self._describe()
        return Register(
            cluster=self._cluster,
            client_token=token,
            resources=host.resources,
            instance_arn=arn,
            attributes=host.attributes,
            tags=host.tags,
            agent_version=host.agent_version,
            machine_id=host.machine_id,
            machine_key=host.machine_key,
            process_id=self._process_id,
            known_tasks=host.known_tasks,
            fleet=host.fleet,
            seen_control_id=self._watermark.seen.control_id,
            seen_history=self._watermark.seen.history,
            seen_revision=self._watermark.seen.revision,
            seen_generation=(self.generation or self._saved.generation) if arn else 0,
        )

    async def _token(self) -> str:
        """Return the client token of this state file; durable before it is first sent."""
        token = await self._store.get_meta(TOKEN)
        if not token:
            token = str(uuid.uuid4())
            batch = Batch()
            batch.put_meta(TOKEN, token)
            await self._store.commit(batch)
        return token

    async def _host_key(self) -> str:
        """Return the key of this state file that shows control which host calls; durable before it is sent."""
        key = await self._store.get_meta(HOST_KEY)
        if not key:
            key = secrets.token_hex(32)
            batch = Batch()
            batch.put_meta(HOST_KEY, key)
            await self._store.commit(batch)
        return key

    async def _save(self, identity: Identity) -> None:
        batch = Batch()
        batch.put_meta(CLUSTER, self._cluster)
        batch.put_meta(INSTANCE, identity.instance_arn)
        batch.put_meta(GENERATION, str(identity.generation))
        batch.put_meta(CONTROL, identity.control_id)
        try:
            await self._store.commit(batch)
        except StateFailure as error:
            # The client token is durable and gives the same instance again.
            _log.warning("registration not saved", error=str(error))


def _asked_s(error: AgentError) -> float:
    return error.retry_after_s if isinstance(error, ControlUnavailable) else 0.0
