"""Opens what the settings ask for, around one store: what the APIs, the agents' protocols and the loops share.

May read and make files of the data directory. Whatever is opened is closed by the caller's ``cleanup``, in reverse order,
also if a later part cannot be opened.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.agents.bound_hosts import Refusals
from agent.controlplane.agents.parts import AgentParts
from agent.controlplane.agents.tokens import AgentTokens
from agent.controlplane.agents.wakeups import WakeUps
from agent.controlplane.audit.trail import Trail
from agent.controlplane.authorization.open_calls import OpenCalls
from agent.controlplane.events import sending
from agent.controlplane.execute_command.sessions import CommandSessions
from agent.controlplane.front import certificate
from agent.controlplane.front.applications import variables_for_tasks
from agent.controlplane.history import History
from agent.controlplane.host_scaling.hooks import HostHooks
from agent.controlplane.iam.directory import Directory
from agent.controlplane.iam.user_records import sealed_kinds
from agent.controlplane.log_settings import keep_logs
from agent.controlplane.metric_store import facts
from agent.controlplane.metric_store.store import FILE as METRICS_FILE
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.names import Names
from agent.controlplane.parts import Parts
from agent.controlplane.pki.names import DIRECTORY
from agent.controlplane.roles.issuer import RoleIssuer
from agent.controlplane.roles.local import LocalRoles
from agent.controlplane.roles.sts import StsRoles
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.server.settings import SECRET_KEYS
from agent.controlplane.server.store_opening import OpenedStore, open_store
from agent.controlplane.store.contract import Put, StoreFailure, absent
from agent.errors import ConfigError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from agent.controlplane.audit.files import AuditSettings
    from agent.controlplane.events.webhook import EventWebhook
    from agent.controlplane.log_settings import KeptLogs
    from agent.controlplane.metric_store.roll_up import Facts
    from agent.controlplane.pki.certificates import Certificates
    from agent.controlplane.server.settings import ControlSettings
    from agent.controlplane.store.contract import Store


class Opened(NamedTuple):
    """What is open, and used by calls and loops alike."""

    kept: OpenedStore
    store: Store
    keeper: SecretKeeper
    directory: Directory
    parts: Parts
    agent_parts: AgentParts
    agent_tokens: AgentTokens
    wakeups: WakeUps
    issuer: RoleIssuer
    metrics: MetricStore
    hooks: HostHooks
    logs: KeptLogs
    webhook: EventWebhook | None
    certificates: Certificates | None


async def open_all(
    settings: ControlSettings,
    cleanup: contextlib.AsyncExitStack,
    standing_by: Callable[[str], None] | None = None,
) -> Opened:
    """Open the store and everything around it; ``cleanup`` closes it.

    Args:
        settings: what to open.
        cleanup: closes everything.
        standing_by: called with the name of another control that leads, for which this waits.

    Raises:
        StoreFailure: the store cannot be opened, or another process has it open.
        ConfigError: files of TLS, keys, tokens or programs cannot be used.
    """
    # First, because a control that stands by must not make files that it should have got from the other.
    kept = await open_store(settings, cleanup, standing_by)
    store = kept.store
    agent_tokens = await asyncio.to_thread(AgentTokens.load, settings.token_file)
    certificates = await _certificates(settings, store)
    logs = await cleanup.enter_async_context(keep_logs(settings.logs, settings.data_dir))
    wakeups, refusals = WakeUps(store), Refusals()
    names = Names(settings.region, settings.account)
    webhook = await cleanup.enter_async_context(
        sending.webhook(settings.event_webhook_file, store, names, time.time)
    )
    sts = await cleanup.enter_async_context(StsRoles.open(settings.roles, region=settings.region))
    keeper = await SecretKeeper.open(
        store, settings.secret_keys or settings.data_dir / SECRET_KEYS, sealed_kinds()
    )
    directory, open_calls = await Directory.open(store, keeper, names), OpenCalls()
    open_calls.follow(directory)
    local = LocalRoles(directory, names, clock=time.time, duration_s=settings.roles.duration_s)
    issuer = RoleIssuer(store, sts, wake=wakeups.wake, clock=time.time, local=local)
    hooks = await HostHooks.open(settings.host_hooks)
    metrics = await MetricStore.open(
        settings.data_dir / METRICS_FILE, partial(_facts, store, hooks)
    )
    cleanup.push_async_callback(metrics.close)
    audit = await _audit(settings.audit, cleanup)
    told = (webhook, audit, hooks, refusals, certificates)
    parts = Parts(
        store=store,
        names=names,
        zone=settings.zone or f"{settings.region}a",
        secrets=keeper,
        directory=directory,
        is_open=settings.keys_file is None,
        roles=issuer,
        task_variables=await variables_for_tasks(settings.roles.task_endpoint, settings.region),
        keeps_logs=settings.keeps_logs and settings.logs.are_kept,
        log_store=logs.store,
        forwarders=logs.forwarders,
        no_logs_reason=logs.none_because,
        logs_are_down=logs.is_down,
        metrics=metrics,
        open_calls=open_calls,
        commands=CommandSessions(wake=wakeups.wake, open_calls=open_calls),
        audit=audit,
        host_hooks=hooks,
        certificates=certificates,
        store_place=kept.place,
        problems=(kept.warning, *(one.problem for one in told if one is not None)),
    )
    agent_parts = AgentParts.build(
        parts,
        agent_tokens,
        control_id=(control_id := await _control_id(store)),
        history=await History.open(store, control_id, seen_revision=kept.seen_revision),
        wakeups=wakeups,
        lease_s=settings.lease_s,
        fleet_plan=settings.fleet,
        refusals=refusals,
    )
    return Opened(
        kept,
        store,
        keeper,
        directory,
        parts,
        agent_parts,
        agent_tokens,
        wakeups,
        issuer,
        metrics,
        hooks,
        logs,
        webhook,
        certificates,
    )


async def _certificates(settings: ControlSettings, store: Store) -> Certificates | None:
    """Return what control signs, and TLS; None where it has none.

    Raises:
        ConfigError: files cannot be used.
    """
    given = await asyncio.to_thread(certificate.context, settings.tls_certificate, settings.tls_key)
    if given is None and not settings.tls_own:
        return None
    if given is not None and settings.tls_own:
        raise ConfigError(
            f"--tls and {certificate.CERTIFICATE} contradict each other; give only one of them"
        )
    # Takes a quarter of a second, and many have no TLS.
    from agent.controlplane.pki.certificates import Certificates  # noqa: PLC0415

    return await Certificates.open(
        settings.data_dir / DIRECTORY,
        store,
        label=await _control_id(store),
        given=given,
        names=settings.tls_names,
    )


async def _facts(store: Store, hooks: HostHooks) -> Facts:
    """Return the facts of this moment, of which figures are."""
    reservations = {tuple(pair): found.reservation for pair, found in hooks.figures.items()}
    return replace(await facts.read(store), reservations=reservations)


async def _audit(
    settings: AuditSettings | None, cleanup: contextlib.AsyncExitStack
) -> Trail | None:
    """Return the audit trail, which ``cleanup`` closes; None where none is kept."""
    if settings is None:
        return None
    trail = await Trail.open(settings)
    cleanup.push_async_callback(trail.close)
    return trail


async def _control_id(store: Store) -> str:
    """Return the id that identifies this store to agents; created once, by the first process."""
    key = records.CONTROL_ID_KEY
    await store.txn([absent(key)], [Put(key, uuid.uuid4().hex.encode())])
    kv = await store.get(key)
    if kv is None:
        raise StoreFailure(f"{key} is missing right after it was written; check the disk")
    return kv.value.decode()
