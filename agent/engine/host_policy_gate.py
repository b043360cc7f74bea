"""Asks the host's own policy about a task: before it is accepted, and again at each step that it could harm by.

``refusals`` builds the create requests that a payload asks for, with stand-ins for what is not known yet, and has
the rules decide about them: nothing is pulled or made. ``check_create`` has them decide about the request that
really goes to the engine, which may differ: names of images, volumes that exist already, paths that lead
elsewhere by now. ``check_start`` asks before each start, since the engine follows links again then.

Tests: ``tests/unit/engine/test_host_policy_gate.py``, ``tests/unit/engine/test_engine_host_policy.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from agent.engine import container_body, ports
from agent.engine.container_body import ContainerContext
from agent.engine.container_gpus import MPS_PIPES, GpuSettings
from agent.engine.labels import (
    LABEL_CLUSTER,
    LABEL_CONTAINER,
    LABEL_FAMILY,
    LABEL_OWNER,
    LABEL_REVISION,
    LABEL_TASK,
)
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.efs import EfsSettings
from agent.engine.preparations.volumes import (
    volume_kind,
    volume_sources,
    wanted_volumes,
)
from agent.errors import PayloadError
from agent.host_policy import findings, mounts, paths, request, resolving, sizes, volumes
from agent.host_policy.findings import Refusal, Unreadable, folded
from agent.host_policy.own import OwnParts, PolicyHost
from agent.model import ids, reasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config.host_policy import HostPolicy
    from agent.engine.preparations.volumes import WantedVolume
    from agent.engine.tools import StepTools
    from agent.host_policy.findings import Refusals
    from agent.model.payload import Container, TaskPayload
    from agent.model.task import AgentTask
    from agent.runtime.protocol import ContainerEngine

_SANDBOX: Final = "sandbox-of-the-task"
"""Stands for the id of a container of the agent's own that is not there yet."""
_REMEMBERED: Final = 64
_ANY_HOST: Final = EfsSettings(plugin=True)
_LABELS: Final = frozenset(
    (LABEL_TASK, LABEL_CONTAINER, LABEL_FAMILY, LABEL_REVISION, LABEL_CLUSTER, LABEL_OWNER)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What the agent adds to a request beside what the payload says."""

    namespaces: tuple[str, ...] = ()
    """Engine ids of containers that hold namespaces of the task."""
    provision: Provision = field(default_factory=Provision)
    """What preparations have made."""
    binds: tuple[str, ...] = ()
    """Mounts besides those, as the engine writes them."""
    files: tuple[str, ...] = ()
    """Paths of files of the agent's own that the container mounts."""
    image: str = ""
    """By which the engine knows the image; empty for the ordered name."""


@dataclass(slots=True)
class _Decided:
    """What is known of one payload, which stays as it is."""

    payload: TaskPayload
    paths: list[str] | None = None
    real: Mapping[str, str] | None = None
    found: list[Refusal] = field(default_factory=list)
    """What is refused if its paths lead to ``real``."""


class _Decisions:
    """Remembers the payloads that were judged last: each is judged again before each step of each of its containers."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, _Decided] = OrderedDict()

    def about(self, payload: TaskPayload) -> _Decided:
        """Return what is known of a payload."""
        known = self._held.get(payload.arn)
        if known is None or known.payload is not payload:
            known = self._held[payload.arn] = _Decided(payload)
        self._held.move_to_end(payload.arn)
        while len(self._held) > _REMEMBERED:
            self._held.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class HostPolicyGate:
    """The policy in force, and what of this host it depends on. Immutable, but for what it remembers."""

    policy: HostPolicy
    host: PolicyHost = field(default_factory=PolicyHost)
    gpus: GpuSettings = field(default_factory=GpuSettings)
    _decisions: _Decisions = field(default_factory=_Decisions, repr=False, compare=False)

    # -- before a task is accepted ----------------------------------------------------------------

    async def resolve(self, payload: TaskPayload) -> dict[str, str]:
        """Return where the paths that a task names lead; takes up to ``resolving.LIMIT_S``."""
        if not paths.judges_paths(self.policy):
            return {}
        known = self._decisions.about(payload)
        if known.paths is None:
            known.paths = self._paths(payload)
        return await resolving.resolved(known.paths)

    def refusals(self, payload: TaskPayload, real: Mapping[str, str]) -> list[Refusal]:
        """Return everything of a task that the policy refuses.

        Args:
            payload: the task.
            real: where its paths lead, as ``resolve`` found out.
        """
        known = self._decisions.about(payload)
        if known.real != real:
            known.found, known.real = self._judged(payload, real), real
        return known.found

    def _judged(self, payload: TaskPayload, real: Mapping[str, str]) -> list[Refusal]:
        bodies = _bodies(payload, self.gpus)
        found = [
            refusal
            for name, body in bodies.items()
            for refusal in request.refusals(
                self.policy, name, body, self._own_of(payload, name, body), self.host, real=real
            )
        ]
        try:
            found += sizes.refusals(self.policy, payload, bodies, self.host)
            found += self._of_volumes(payload, real)
        except Unreadable as error:
            found.append(Refusal("other_settings", f"cannot be judged: {error}"))
        return found

    def reason(self, payload: TaskPayload, real: Mapping[str, str]) -> str:
        """Return why a task is refused; empty if it may run."""
        found = self.refusals(payload, real)
        return findings.reason(self.policy, found) if found else ""

    def _of_volumes(self, payload: TaskPayload, real: Mapping[str, str]) -> Refusals:
        sources = volume_sources(payload)
        kinds = {sources[volume.name]: volume_kind(volume) for volume in payload.volumes}
        for volume in _volumes(payload):
            yield from volumes.refusals(
                self.policy,
                volume.driver,
                volume.options,
                kind="efs" if kinds.get(volume.engine_name) == "efs" else "",
                real=real,
                protected=self.host.protected,
            )

    def _paths(self, payload: TaskPayload) -> list[str]:
        sources = [volumes.source_of(each.driver, each.options) for each in _volumes(payload)]
        for name, body in _bodies(payload, self.gpus).items():
            sources += _sources(body, self._own_of(payload, name, body))
        return [source for source in sources if source]

    def _own_of(self, payload: TaskPayload, name: str, body: Mapping[str, Any]) -> OwnParts:
        return _own_parts(payload, name, body, Added(namespaces=(_SANDBOX,)), self.gpus)

    # -- before the engine is asked ---------------------------------------------------------------

    async def check_create(
        self,
        record: AgentTask,
        name: str,
        body: Mapping[str, Any],
        around: ContainerContext,
        tools: StepTools,
    ) -> None:
        """Raise ``PayloadError`` if the policy refuses a request that is about to be made.

        Args:
            record: the task.
            name: of the container.
            body: the request, exactly as the engine gets it.
            around: what the agent has made it from.
            tools: know the files and sandboxes of the agent, and the volumes of the engine.
        """
        payload, runtime = record.payload, tools.runtime
        hosts_file = tools.hosts_files.path_of(ids.container_digest(record.arn, name))
        added = Added(
            namespaces=(around.sandbox_id, tools.container_sandboxes.of(record.arn, name)),
            provision=around.provision,
            binds=around.binds,
            files=(around.resolv_conf, str(hosts_file)),
            image=around.image,
        )
        await self.check_start(payload)
        own = _own_parts(payload, name, body, added, self.gpus)
        sources = _sources(body, own)
        there = []
        for volume in _named(body, own):
            known = await runtime.inspect_volume(volume)
            if known is not None:
                there.append(known)
                sources.append(volumes.source_of(known.driver, known.options))
        real = await resolving.resolved(source for source in sources if source)
        found = list(request.refusals(self.policy, name, body, own, self.host, real=real))
        for known in there:
            found += volumes.refusals(
                self.policy,
                known.driver,
                known.options,
                container=name,
                real=real,
                protected=self.host.protected,
            )
        self._raise(found)

    async def reason_now(self, payload: TaskPayload) -> str:
        """Return why a task is refused, by where its paths lead now; empty if it may run."""
        return self.reason(payload, await self.resolve(payload))

    async def check_start(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` if the policy refuses a task now."""
        self._raise(self.refusals(payload, await self.resolve(payload)))

    async def check_volume(
        self, payload: TaskPayload, volume: WantedVolume, runtime: ContainerEngine
    ) -> None:
        """Raise ``PayloadError`` for a volume of the task that is there already and is refused.

        The engine keeps a volume as it was first made, so what counts is how it was made then.
        """
        known = await runtime.inspect_volume(volume.engine_name)
        if known is None:
            return
        if (known.driver, known.options) == (volume.driver or volumes.LOCAL, volume.options):
            return  # as ordered, which has been decided
        source = volumes.source_of(known.driver, known.options)
        real = await resolving.resolved([source] if source else [])
        found = volumes.refusals(
            self.policy, known.driver, known.options, real=real, protected=self.host.protected
        )
        self._raise(list(found))

    def _raise(self, found: list[Refusal]) -> None:
        if found:
            raise PayloadError(findings.reason(self.policy, found), name=reasons.HOST_CONFIG)


def _own_parts(
    payload: TaskPayload, name: str, body: Mapping[str, Any], added: Added, gpus: GpuSettings
) -> OwnParts:
    """Return what of a request no rule is about."""
    definition = payload.container(name)
    shares = definition is not None and definition.gpu_share is not None
    given = added.provision
    pipes = gpus.mps_pipes if shares else ""
    labels = body.get("Labels") or {}
    return OwnParts(
        containers=[container_body.engine_name(payload, each.name) for each in payload.containers],
        namespaces=[each for each in (*added.namespaces, given.namespaces) if each],
        binds={
            *given.binds.get(name, ()),
            *added.binds,
            *([f"{pipes}:{MPS_PIPES}"] if pipes else []),
        },
        bind_sources=[path for path in added.files if path],
        volumes=[volume.engine_name for volume in _volumes(payload)],
        cgroup_parent=given.cgroup_parent,
        labels={key: value for key, value in labels.items() if key in _LABELS},
        gpus=any(a.type == "gpu" and name in a.containers for a in payload.associations),
        mps_pipes=pipes,
        routes_logs=name in given.log_configs,
        image=added.image,
        ordered_image=definition.image if definition is not None else "",
    )


def _bodies(payload: TaskPayload, gpus: GpuSettings) -> dict[str, dict[str, Any]]:
    """Return the requests that a payload asks for; none for a container that cannot be made at all."""
    around = ContainerContext(
        sandbox_id=_SANDBOX,
        provision=Provision(mount_sources=volume_sources(payload), namespaces=_SANDBOX),
        gpus=gpus,
    )
    found = {}
    for container in payload.containers:
        body = _body(payload, container, around)
        if body is not None:
            found[container.name] = body
    return found


def _body(
    payload: TaskPayload, container: Container, around: ContainerContext
) -> dict[str, Any] | None:
    try:
        around = replace(around, host_ports=ports.stand_ins(container))
        return container_body.body(payload, container, around)
    except PayloadError:
        return None  # the same error ends the task when the container is to be made


def _volumes(payload: TaskPayload) -> list[WantedVolume]:
    try:
        return wanted_volumes(payload, _ANY_HOST)
    except PayloadError:
        return []  # refused as such


def _sources(body: Mapping[str, Any], own: OwnParts) -> list[str]:
    try:
        return mounts.host_sources(folded(body.get("HostConfig"), "HostConfig"), own)
    except Unreadable:
        return []  # refused by the rules


def _named(body: Mapping[str, Any], own: OwnParts) -> Iterator[str]:
    try:
        yield from mounts.volume_names(folded(body.get("HostConfig"), "HostConfig"), own)
    except Unreadable:
        return
