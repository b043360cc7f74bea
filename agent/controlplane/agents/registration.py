"""Registration of hosts: which instance an agent is, for this call and for every later one.

The same client token means the same instance, and so does an ARN from an earlier registration. Each
registration creates a new generation; a call with an older one comes from another agent that was
started from the same state, and is told to stop. What an operator set on the instance (attributes,
DRAINING) stays. A registration binds the instance to the host that made it (``bindings``).

An instance that an operator deregistered does not come back by itself: as on Amazon ECS, its agent
needs a new state directory first. If the agent left by itself, its host becomes a new instance.

Tests: ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/agents/amazon/test_registration.py``.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, NamedTuple

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents import (
    bindings,
    host_attributes,
    host_rules,
    known_hosts,
    lost_orders,
    machines,
)
from agent.controlplane.agents.bindings import Shown
from agent.controlplane.agents.bound_hosts import BoundHosts, Refusals
from agent.controlplane.agents.known_hosts import Caller
from agent.controlplane.agents.longpoll.errors import (
    InstanceUnknown,
    InvalidRequest,
    StaleGeneration,
    TryAgain,
)
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.fleet_network.members import FleetMembers, FleetRefused
from agent.controlplane.names import new_id, parse_arn
from agent.controlplane.pki.identities import REPLACED
from agent.controlplane.recent import Recent
from agent.controlplane.records import (
    ClusterRecord,
    InstanceRecord,
)
from agent.controlplane.store.contract import (
    Delete,
    Op,
    Put,
    absent,
    as_read,
    unchanged,
)
from agent.model.ids import cluster_name

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.agents.incumbents import Incumbents
    from agent.controlplane.agents.new_hosts import NewHosts
    from agent.controlplane.fleet_network.members import Joining
    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.pki.identities import HostIdentities
    from agent.controlplane.store.contract import Compare, KeyValue
    from agent.model.wire import Register

_TRIES = 8
DEFAULT_CLUSTER = "default"

_log = structlog.get_logger(__name__)


class InstanceRegistry:
    """Registers instances and finds them again by their id."""

    def __init__(
        self,
        parts: Parts,
        history: History,
        *,
        new_hosts: NewHosts | None = None,
        members: FleetMembers | None = None,
        refusals: Refusals | None = None,
        incumbents: Incumbents,
        identities: HostIdentities | None = None,
    ) -> None:
        """Take the parts.

        Args:
            parts: the store.
            history: of the store.
            new_hosts: limits hosts that are not known yet; None without limits.
            members: gives hosts their part in the network between them; None where there is no network.
            refusals: is told of calls in the name of other hosts.
            incumbents: knows which processes are connected.
            identities: those that control gave to hosts; None if it gives none.
        """
        self.incumbents = incumbents
        self._identities = identities
        self.hosts = BoundHosts(parts.store, parts.figures, refusals or Refusals())
        self._members = members or FleetMembers(parts.store, None)
        self._parts = parts
        self._history = history
        self._new_hosts = new_hosts
        self._clusters: Recent[str, str] = Recent()
        """Instance id to cluster name; a pair never changes."""

    async def register(
        self,
        call: Register,
        shown: Shown | None = None,
        *,
        tells_all: bool = True,
        address: str = "",
    ) -> InstanceRecord:
        """Register a host, or register it again; the same call twice gives one instance.

        Args:
            call: what the host sends.
            shown: what it shows of itself; None for nothing.
            tells_all: whether a repeated registration has all data again. That of Amazon's agent
                does not: it only sends its own attributes with the first one, and never the tasks
                that it has.
            address: where the call comes from.

        Raises:
            TooManyHosts: it is a new host, and the limit of new hosts is reached.
            InvalidRequest: the cluster does not exist, the host belongs to another one, or a field is
                over its limit (``host_rules``).
            StaleGeneration: an operator deregistered the instance, or another host is connected as it.
            NotItsHost: the token is for another host.
            TryAgain: the same host was registered concurrently.
        """
        try:
            host_rules.check(call)
        except OutOfBounds as error:
            raise InvalidRequest(f"the registration is refused: {error}") from None
        cluster = cluster_name(call.cluster) or DEFAULT_CLUSTER
        machine = machines.digest(cluster, call) if tells_all else ""
        for _ in range(_TRIES):
            of_cluster = await self._ensure_cluster(cluster)
            caller = Caller(call, machine, shown or Shown())
            known, token = await known_hosts.find(self._parts.store, self.hosts, caller)
            generation = known.record.generation if known is not None else None
            is_behind = await self._history.is_behind(call, generation)
            said = _Said(call, machine, caller.shown, token, is_behind)
            if known is None:
                if self._new_hosts is not None:
                    await self._new_hosts.admit(address)
                record = await self._create(cluster, said, of_cluster)
            else:
                _check_same(known.record, cluster)
                await self._check_alone(known.record, caller)
                record = await self._renew(known, said, tells_all=tells_all)
            if record is not None:
                self._clusters[record.id] = record.cluster
                self.incumbents.registered(record.id, call)
                await self._note_identity(record, known)
                if tells_all:
                    await lost_orders.write_again(self._parts.store, record, set(call.known_tasks))
                _log.info(
                    "instance registered",
                    instance=record.arn,
                    generation=record.generation,
                    hostname=record.resources.hostname,
                )
                return record
        raise TryAgain("the same host is being registered more than once; try again")

    async def find(self, instance_id: str, generation: int, shown: Shown) -> Found[InstanceRecord]:
        """Return the instance of a call.

        Raises:
            InstanceUnknown: it does not exist, is INACTIVE, or is that of another host.
            StaleGeneration: the call comes from an older registration.
        """
        found = await self.hosts.check(await self.current(instance_id), shown)
        if generation < found.record.generation:
            raise StaleGeneration(
                f"another agent registered as this container instance (generation "
                f"{found.record.generation}, this call has {generation}); stop this agent, and "
                "give each host its own state directory"
            )
        if generation > found.record.generation:
            # The store was replaced by an older copy.
            raise InstanceUnknown("this registration is not known; register again")
        if found.record.session and not hmac.compare_digest(found.record.session, shown.session):
            # A copy of the host's files, or a store that was replaced by an older copy.
            raise InstanceUnknown("this registration is of another process; register again")
        await self.heard(found)
        return found

    async def _note_identity(
        self, record: InstanceRecord, known: Found[InstanceRecord] | None
    ) -> None:
        """Note whose an identity is, and end the one that the same host had before."""
        identities, before = self._identities, known.record.bound_to if known is not None else ""
        if identities is None or before == record.bound_to:
            return
        if record.bound_to.startswith(bindings.HOST):
            await identities.bound(record.bound_to.removeprefix(bindings.HOST), record.arn)
        if before.startswith(bindings.HOST):
            await identities.revoke(before.removeprefix(bindings.HOST), reason=REPLACED)

    async def _check_alone(self, known: InstanceRecord, caller: Caller) -> None:
        """Check that no other process is connected as an instance; raises ``StaleGeneration``."""
        if not await self.incumbents.is_there(known, caller.call):
            return
        self.hosts.refuse_copy(known.arn, caller.shown, caller.call.resources.hostname)
        raise StaleGeneration(
            f"another host is connected as this container instance, {known.resources.hostname or 'without a name'}; "
            "stop this agent, and give each host its own state directory"
        )

    async def heard(self, found: Found[InstanceRecord]) -> None:
        """Record that an instance made a call after its registration."""
        if self._new_hosts is not None:
            await self._new_hosts.heard(found.record)

    async def current(self, instance_id: str) -> Found[InstanceRecord]:
        """Return an instance, whatever the generation of its registration.

        Raises:
            InstanceUnknown: it does not exist, or is INACTIVE.
        """
        cluster = self._clusters.get(instance_id) or await self._cluster_of(instance_id)
        key = records.instance_key(cluster, instance_id)
        found = await access.find(self._parts.store, InstanceRecord, key) if cluster else None
        if found is None or found.record.status == "INACTIVE":
            raise InstanceUnknown("this container instance is not registered; register it again")
        return found

    async def _cluster_of(self, instance_id: str) -> str:
        """Search all clusters; needed only once per instance and process."""
        names = [
            records.last_element(kv.key)
            async for kv, _ in access.scan(self._parts.store, ClusterRecord, records.CLUSTERS)
        ]
        keys = {records.instance_key(name, instance_id): name for name in names}
        for key in await access.find_many(self._parts.store, InstanceRecord, keys):
            self._clusters[instance_id] = keys[key]
        return self._clusters.get(instance_id, "")

    async def _ensure_cluster(self, name: str) -> KeyValue | None:
        """Return the cluster as it was read; creates ``default`` if it is missing."""
        store, key = self._parts.store, records.cluster_key(name)
        found = await access.find(store, ClusterRecord, key)
        if found is not None and found.record.status == "ACTIVE":
            return found.kv
        if name != DEFAULT_CLUSTER:
            raise InvalidRequest(
                f"cluster {name[:255]!r} does not exist; create it with CreateCluster, or set "
                "ECS_CLUSTER to an existing one"
            )
        # As on ECS, the default cluster is created for the first host that needs it.
        record = ClusterRecord(
            name=name,
            arn=self._parts.names.cluster(name),
            created_at=self._parts.clock(),
        )
        compare = as_read(key, None if found is None else found.kv)
        await store.txn([compare], [Put(key, records.encode(record))])
        return await store.get(key)

    async def _create(
        self, cluster: str, said: _Said, of_cluster: KeyValue | None
    ) -> InstanceRecord | None:
        """Create a new instance; None if the token or the cluster has changed since it was read."""
        parts, call, is_behind = self._parts, said.call, said.is_behind
        instance_id = (self._forgotten(cluster, call.instance_arn) if is_behind else "") or new_id()
        record = InstanceRecord(
            id=instance_id,
            arn=parts.names.instance(cluster, instance_id),
            cluster=cluster,
            resources=call.resources,
            client_token=call.client_token,
            machine=said.machine,
            bound_to=said.shown.proof,
            session=said.shown.session,
            history=self._history.current,
            recovering=is_behind,
            attributes=host_attributes.of_call(call, {}, parts.zone)
            | bindings.attribute(said.shown.proof),
            tags=dict(call.tags),
            agent_version=call.agent_version,
            agent_hash=call.agent_hash,
            ec2_instance_id=call.ec2_instance_id,
            registered_at=parts.clock(),
        )
        token_key = records.registration_key(call.client_token)
        joining = await self._joining(instance_id, call)
        of_name = await self.hosts.name_rows(record, said.shown)
        compares = [
            *joining.compares,
            *of_name[0],
            as_read(token_key, said.token),
            as_read(records.cluster_key(cluster), of_cluster),
            absent(records.instance_key(cluster, instance_id)),
        ]
        then = [
            *joining.ops,
            *of_name[1],
            Put(token_key, record.arn.encode()),
            Put(records.instance_key(cluster, instance_id), records.encode(record)),
            Put(records.members_key(cluster), b""),
            *_machine_row(record),
            *(self._new_hosts.rows(record) if self._new_hosts is not None else ()),
        ]
        result = await parts.store.txn(compares, then)
        if result.succeeded and self._new_hosts is not None:
            self._new_hosts.made(record)
        return record if result.succeeded else None

    async def _joining(self, instance_id: str, call: Register) -> Joining:
        try:
            return await self._members.joining(instance_id, call.fleet)
        except FleetRefused as error:
            raise InvalidRequest(f"the registration is refused: {error}") from None

    def _forgotten(self, cluster: str, arn: str) -> str:
        """Return the id of an instance that an older store has lost; empty if there is none."""
        parsed = parse_arn(arn)
        if parsed is None or self._parts.names.instance(cluster, parsed.id) != arn:
            return ""
        return parsed.id

    async def _renew(
        self, known: Found[InstanceRecord], said: _Said, *, tells_all: bool
    ) -> InstanceRecord | None:
        old, call = known.record, said.call
        attributes = host_attributes.of_call(call, old.attributes, self._parts.zone)
        if not tells_all:
            attributes = host_attributes.own(old.attributes) | attributes
        proof = said.shown.proof
        record = replace(
            old,
            resources=call.resources,
            generation=old.generation + 1,
            recovering=old.recovering or said.is_behind,
            client_token=call.client_token if tells_all else old.client_token,
            machine=said.machine or old.machine,
            bound_to=proof,
            session=said.shown.session,
            attributes=attributes | bindings.attribute(proof),
            agent_version=call.agent_version or old.agent_version,
            agent_hash=call.agent_hash or old.agent_hash,
            ec2_instance_id=call.ec2_instance_id,
            version=old.version + 1,
        )
        joining = await self._joining(record.id, call)
        of_name = await self.hosts.name_rows(record, said.shown)
        compares: list[Compare] = [unchanged(known.kv), *joining.compares, *of_name[0]]
        then: list[Op] = [Put(known.kv.key, records.encode(record)), *joining.ops, *of_name[1]]
        if record.client_token != old.client_token:
            token_key = records.registration_key(record.client_token)
            compares.append(as_read(token_key, said.token))
            then.append(Put(token_key, record.arn.encode()))
            then.append(Delete(records.registration_key(old.client_token)))
        if record.machine != old.machine:
            then.extend(_machine_row(record))
            then.extend([Delete(records.machine_key(old.machine))] if old.machine else [])
        # Also on a full disk: without registration, an agent can neither stop tasks nor report.
        result = await self._parts.store.txn(compares, then, urgent=True)
        return record if result.succeeded else None


class _Said(NamedTuple):
    """The content of a call, and related data from the store."""

    call: Register
    machine: str
    """Digest of the identifiers of the machine."""
    shown: Shown
    token: KeyValue | None
    is_behind: bool


def _machine_row(record: InstanceRecord) -> list[Op]:
    if not record.machine:
        return []
    return [Put(records.machine_key(record.machine), record.arn.encode())]


def _check_same(record: InstanceRecord, cluster: str) -> None:
    if record.cluster != cluster:
        raise InvalidRequest(
            f"this host is registered in cluster {record.cluster!r} and asks for {cluster!r}; set "
            "ECS_CLUSTER back, or remove the agent's state directory to register it as a new host"
        )
