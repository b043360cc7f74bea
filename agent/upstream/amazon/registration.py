"""The registration of this host with Amazon ECS: retried until it works, saved, and reused.

Accesses the ECS API, instance metadata and the ``meta`` table. Failures that may pass are retried
for ever with backoff, while running tasks continue; Amazon's agent exits instead and relies on a
restart. What someone has to fix raises ``RegistrationRefused`` or ``ConfigError``, whose text names
the fix. Source of the rules: Amazon ECS agent 1.105.1, ``agent/api/ecsclient`` and
``agent/app/agent.go``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from agent.errors import (
    AgentError,
    AwsRefused,
    AwsUnavailable,
    ConfigError,
    ControlUnavailable,
    RegistrationRefused,
    StateFailure,
)
from agent.model import ids
from agent.model.liveness import WORK_S, Liveness
from agent.state import Batch
from agent.throttle import RepeatedWarning
from agent.upstream.amazon import offer, refusals
from agent.upstream.amazon.calls import asked
from agent.upstream.amazon.ec2 import facts, warm_pool
from agent.upstream.amazon.identity import INSTANCE
from agent.upstream.connection import WARN_EVERY_S
from agent.upstream.host_identity import AVAILABILITY_ZONE

if TYPE_CHECKING:
    from agent.state import StateStore
    from agent.upstream.amazon.calls import Api, BackoffPolicy, InstanceMetadata
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.protocol import DescribeHost, RegisterInfo

_log = structlog.get_logger()

CLUSTER: Final = "ecs.cluster"
MANIFEST_SEQ: Final = "ecs.manifestSeqNum"
"""Number of the newest accepted task manifest; counted per container instance."""

DEFAULT_CLUSTER: Final = "default"
CALL_LIMIT_S: Final = 180.0
"""Time limit of one call with its own retries: 3 × 42 s and the pauses between them."""

FetchTags = Callable[[], Awaitable[dict[str, str]]]
"""Fetches the tags of the EC2 instance (``ec2.tags.InstanceTags``); raises ``AwsFailure``."""


class RegistrationSettings(Struct, frozen=True, kw_only=True):
    """The settings of the registration."""

    cluster: str = ""
    """Name or ARN; empty for ``default``."""
    cluster_given: bool = True
    """False if the cluster was not set: only then a missing ``default`` is created."""
    custom_attributes: dict[str, str] = {}
    """``ECS_INSTANCE_ATTRIBUTES``, checked (``resources.attributes.checked``)."""
    warm_pools_check: bool = False
    """Register only once Auto Scaling has put the instance into service."""
    warm_pool_interval_s: float = warm_pool.INTERVAL_S
    proof_limit_s: float = facts.PROOF_LIMIT_S


class Instance(Struct, frozen=True, kw_only=True):
    """A container instance as Amazon ECS knows it."""

    arn: str
    cluster: str
    """As configured: a name or an ARN."""
    availability_zone: str = ""
    control_is_ours: bool = False
    """Our own control endpoint answered, which supports more than Amazon ECS does."""


async def read_saved_arn(store: StateStore, cluster: str) -> str:
    """Return the ARN of the container instance that this host is; empty until it is one.

    Args:
        store: the state of this host.
        cluster: name or ARN of the configured cluster; empty for ``default``.

    Raises:
        ConfigError: the host was registered into another cluster than the configured one.
        StateFailure: the store cannot be read.
    """
    configured = cluster or DEFAULT_CLUSTER
    saved = await store.get_meta(CLUSTER)
    if saved and not _same_cluster(saved, configured):
        raise ConfigError(
            f"ECS_CLUSTER is {configured!r}, but this host is registered in {saved!r}: set"
            f" ECS_CLUSTER={saved}, or {refusals.start_anew(store.path)}"
        )
    return await store.get_meta(INSTANCE) or ""


class AmazonRegistration:
    """The registration of one host with one ECS API. Create it on the event loop that uses it."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        settings: RegistrationSettings,
        store: StateStore,
        api: Api,
        imds: InstanceMetadata | None,
        describe: DescribeHost,
        link: ConnectionStatus,
        backoff: BackoffPolicy,
        *,
        saved_arn: str,
        instance_tags: FetchTags | None = None,
    ) -> None:
        self.liveness = Liveness("registration")
        """Set while a registration is under way; loops that wait for it have no deadline."""
        self.cluster = settings.cluster or DEFAULT_CLUSTER
        """Name or ARN of the cluster, for every call that names one."""
        self._settings = settings
        self._store = store
        self._api = api
        self._imds = imds
        self._describe = describe
        self._link = link
        self._backoff = backoff
        self._instance_tags = instance_tags
        self._left_out = RepeatedWarning(
            "tags of the EC2 instance that Amazon ECS does not accept", every_s=WARN_EVERY_S
        )
        self._registered = asyncio.Event()
        self._current: Instance | None = None
        self._saved_arn = saved_arn

    @property
    def instance_arn(self) -> str:
        """ARN of the registration, including a saved one; empty if there is none."""
        return self._current.arn if self._current else self._saved_arn

    async def instance(self) -> Instance:
        """Return the instance; waits for the registration."""
        while self._current is None:
            await self._registered.wait()
        return self._current

    async def run(self) -> None:
        """Register, unless that was done; retries until it works.

        An instance that was deregistered stays so until someone registers the host anew, as with
        Amazon's agent.

        Raises:
            RegistrationRefused: Amazon ECS refuses this host as it is.
            ConfigError: the host's description of itself is not valid.
        """
        if self._current is not None:
            return
        try:
            await self._until_registered()
        except (RegistrationRefused, ConfigError) as error:
            self._link.down(error)
            raise
        finally:
            self.liveness.rest()

    async def _until_registered(self) -> None:
        if self._settings.warm_pools_check:
            await warm_pool.in_service(
                self._imds,
                self.liveness,
                waiting=lambda text: self._link.down(ControlUnavailable(text)),
                interval_s=self._settings.warm_pool_interval_s,
            )
        # The same token for all tries: a lost answer must not create a second instance.
        token = str(uuid.uuid4())
        while True:
            try:
                instance = await self._register(token)
            except (RegistrationRefused, ConfigError):
                raise
            except AgentError as error:
                await self._wait_out(error)
            else:
                break
        await self._until_saved(instance)
        self._backoff.reset()
        self._current = instance
        self._registered.set()

    async def _wait_out(self, error: AgentError) -> None:
        self._link.down(error)
        pause_s = self._backoff.next_s(
            error.retry_after_s if isinstance(error, AwsUnavailable) else 0.0
        )
        self._link.try_in(pause_s)
        with self.liveness.within(pause_s + WORK_S, "waiting to register again"):
            await self._link.pause(pause_s)

    async def _register(self, token: str) -> Instance:
        info = self._describe()
        limit_s = 2 * self._settings.proof_limit_s + facts.FACTS_LIMIT_S + CALL_LIMIT_S + WORK_S
        with self.liveness.within(limit_s, "collecting proof and description of the instance"):
            registrant = await self._registrant(info, token)
        request = offer.request(info, registrant)
        with self.liveness.within(3 * CALL_LIMIT_S + WORK_S, "registering"):
            answer = offer.read_answer(await self._ask(request, registrant))
        unmet = offer.unmet(
            offer.attributes(info.attributes, registrant), answer.attributes, registrant.custom
        )
        if unmet:
            raise refusals.attributes_not_kept(unmet, answer.attributes)
        return self._instance_of(answer, registrant.instance_arn)

    async def _registrant(self, info: RegisterInfo, token: str) -> offer.Registrant:
        of_ec2 = {} if self._instance_tags is None else await self._instance_tags()
        tags, left = offer.tags(info.tags, of_ec2)
        if left:
            self._left_out.tell(keys=left)
        proof, known = await asyncio.gather(
            facts.identity_proof(self._imds, self._settings.proof_limit_s),
            facts.read_facts(self._imds),
        )
        return offer.Registrant(
            cluster=self.cluster,
            client_token=token,
            instance_arn=self.instance_arn,
            custom=self._settings.custom_attributes,
            proof=proof,
            facts=known,
            tags=tags,
        )

    async def _ask(self, request: dict[str, Any], registrant: offer.Registrant) -> dict[str, Any]:
        try:
            return await self._call("RegisterContainerInstance", request)
        except AwsRefused as error:
            if not refusals.is_cluster_missing(error) or not self._makes_its_cluster:
                raise self._judged(error, registrant) from error
        _log.info("creating the default cluster, because none is set", cluster=self.cluster)
        await self._call("CreateCluster", {"clusterName": self.cluster})
        try:
            return await self._call("RegisterContainerInstance", request)
        except AwsRefused as error:
            raise self._judged(error, registrant) from error

    async def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                return await self._api.call(operation, request)
        except TimeoutError:
            text = f"{operation}: no answer within {CALL_LIMIT_S:g} s"
            raise AwsUnavailable(text) from None

    @property
    def _makes_its_cluster(self) -> bool:
        return not self._settings.cluster_given and self.cluster == DEFAULT_CLUSTER

    def _judged(self, error: AwsRefused, registrant: offer.Registrant) -> AgentError:
        return refusals.judge(
            error,
            cluster=self.cluster,
            instance_arn=registrant.instance_arn,
            state=self._store.path,
            unproven=asked(self._imds) is not None and not registrant.proof,
        )

    def _instance_of(self, answer: offer.Answer, asked_for: str) -> Instance:
        if asked_for and ids.instance_id(answer.arn) != ids.instance_id(asked_for):
            # Amazon ECS never does this, and its agent would not notice. Our tasks belong to the
            # earlier instance; a server that no longer knows it will refuse its session.
            _log.warning(
                "answered as another container instance; keeping the earlier one",
                before=asked_for,
                answered=answer.arn,
            )
        return Instance(
            arn=asked_for or answer.arn,
            cluster=self.cluster,
            availability_zone=answer.availability_zone,
            control_is_ours=answer.control_is_ours,
        )

    async def _until_saved(self, instance: Instance) -> None:
        """Make the instance durable before it is used, or a crash would leave it orphaned."""
        while True:
            batch = Batch()
            batch.put_meta(INSTANCE, instance.arn)
            batch.put_meta(CLUSTER, instance.cluster)
            batch.put_meta(AVAILABILITY_ZONE, instance.availability_zone)
            if instance.arn != self.instance_arn:
                batch.delete_meta(MANIFEST_SEQ)
            try:
                await self._store.commit(batch)
            except StateFailure as error:
                if instance.arn == self.instance_arn:
                    _log.warning("registration not saved", error=str(error))
                    return
                await self._wait_out(error)
            else:
                self._saved_arn = instance.arn
                _log.info(
                    "host registered",
                    instance=instance.arn,
                    cluster=instance.cluster,
                    zone=instance.availability_zone,
                )
                return


def _same_cluster(one: str, other: str) -> bool:
    """Compare ARNs as a whole; a name matches any cluster of that name."""
    if one.startswith("arn:") and other.startswith("arn:"):
        return one == other
    return ids.cluster_name(one) == ids.cluster_name(other)
