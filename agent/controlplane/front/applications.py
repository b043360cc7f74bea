"""What an address serves: the routes for operators, and those for agents and programs that watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from agent.controlplane import records
from agent.controlplane.api.table import APIS, ECS, LOGS
from agent.controlplane.console import admission
from agent.controlplane.console.admission import Console, KeylessReaders
from agent.controlplane.console.files import PageFiles, PageSettings
from agent.controlplane.console.stream import ChangeStream
from agent.controlplane.execute_command.channel import CommandChannel
from agent.controlplane.front import forward_targets
from agent.controlplane.front.deferred import DeferredApi
from agent.controlplane.front.door import ServiceRouter
from agent.controlplane.front.event_stream import EventStream
from agent.controlplane.front.operators import Nobody, no_pages
from agent.controlplane.front.own_calls import OwnCalls
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.front.service_model import ApiModel
from agent.controlplane.store.contract import Put, StoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.controlplane.agents.amazon.wire import EcsWire
    from agent.controlplane.agents.longpoll.http import AgentWire
    from agent.controlplane.api.table import Api
    from agent.controlplane.front.forwarder import Forwarder
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.monitoring.calls import Monitoring
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Store

HEALTH_LIMIT_S = 5.0


class _ServedApis(NamedTuple):
    """The APIs; a deferred one is loaded at the first request."""

    loaded: Sequence[tuple[Api, ApiModel]]
    deferred: Sequence[Api]


class Applications:
    """Builds applications that share the same parts and agent protocols."""

    def __init__(
        self,
        parts: Parts,
        apis: _ServedApis,
        wire: AgentWire,
        ecs: EcsWire,
        monitoring: Monitoring,
        forwarder: Forwarder | None,
        page: PageFiles | None,
    ) -> None:
        self._forwarder = forwarder
        self._parts = parts
        self._apis = [(api, model, api.handlers()) for api, model in apis.loaded]
        self._deferred = apis.deferred
        self._wire = wire
        self._ecs = ecs
        self._monitoring = monitoring
        self._events = EventStream(parts)
        self._changes = ChangeStream(parts)
        self._page = page

    def close(self) -> None:
        """End the streams of events and changes and the sessions of commands, which would go on for ever."""
        self._events.close()
        self._changes.close()
        self._parts.commands.close()

    @classmethod
    async def open(
        cls,
        parts: Parts,
        wire: AgentWire,
        ecs: EcsWire,
        monitoring: Monitoring,
        *,
        forwarder: Forwarder | None = None,
        console: Console = Console.OFF,
        has_keys: bool = True,
    ) -> Applications:
        """Load the models of the served APIs, except those that are read at the first request.

        Args:
            parts: what all handlers share.
            wire: our agents' long poll.
            ecs: the protocol of Amazon's agent.
            monitoring: for programs that watch.
            forwarder: sends calls of services that are not served elsewhere; None to refuse them.
            console: whether there is one, and for whom.
            has_keys: whether operators have keys with which they sign.

        Raises:
            ConfigError: calls of a service that is served are to be sent on.
        """
        apis = await load_models()
        deferred = [api for api in APIS if api.named is not None]
        served = [model.signing_name for _, model in apis]
        served += [api.named.signing_name for api in deferred if api.named is not None]
        if forwarder is not None:
            forward_targets.check_not_served(forwarder.targets, served)
        page = await _page(parts, console, has_keys=has_keys)
        return cls(parts, _ServedApis(apis, deferred), wire, ecs, monitoring, forwarder, page)

    @property
    def names(self) -> Names:
        """The names of this control endpoint."""
        return self._parts.names

    @property
    def endpoint_variables(self) -> list[str]:
        """The variables in which AWS tools look for what is served here; not that of logs if they are off."""
        parts = self._parts
        off = [LOGS] if parts.log_store is None and not parts.logs_are_down else []
        return [
            *(model.endpoint_variable for api, model, _ in self._apis if api not in off),
            *(api.named.endpoint_variable for api in self._deferred if api.named is not None),
        ]

    def for_operators(
        self,
        operators: Operators,
        *,
        own_names_only: bool = False,
        with_console: bool = False,
    ) -> web.Application:
        """Return all routes: the AWS APIs for admitted operators, and the agents' protocols.

        Args:
            operators: decides who is admitted.
            own_names_only: whether to refuse requests with the name of another host.
            with_console: whether browsers can reach the address; there may be no console still.
        """
        page = self._page if with_console else None
        if page is not None and page.everybody_reads:
            operators = KeylessReaders(operators, self._parts.names)
        later = [DeferredApi(self._parts, api, operators) for api in self._deferred]
        router = ServiceRouter(
            {
                model.signing_name: ServiceApi(
                    self._parts,
                    model,
                    handlers,
                    operators=operators,
                    check=api.check,
                    agents=self._ecs.calls if api is ECS else None,
                    body_limit_bytes=api.body_limit_bytes,
                    reasons=api.reasons,
                ).handle
                for api, model, handlers in self._apis
            }
            | {each.names.signing_name: each.handle for each in later},
            {model.target_prefix: model.signing_name for _, model, _ in self._apis},
            default=ECS.service,
            variables={model.title: model.endpoint_variable for _, model, _ in self._apis}
            | {each.names.title: each.names.endpoint_variable for each in later},
            forwarder=self._forwarder,
            operators=operators,
        )
        app = self._application(
            operators,
            own_names_only=own_names_only,
            admits=None if page is None else admission.is_of_own_page,
        )
        OwnCalls(self._parts, operators, self._events, self._changes).add_routes(app.router)
        CommandChannel(self._parts.commands, self._parts.log_store).add_routes(app.router)
        if page is not None:
            page.add_routes(app.router)
        # Last, because AWS services use all kinds of paths.
        app.router.add_route("*", "/{path:.*}", router.handle)
        return app

    def for_agents(self) -> web.Application:
        """Return the routes that agents call, with both protocols, and those that only need a token."""
        model, handlers = next((model, each) for api, model, each in self._apis if api is ECS)
        nobody = Nobody()
        api = ServiceApi(
            self._parts,
            model,
            handlers,
            operators=nobody,
            check=ECS.check,
            agents=self._ecs.calls,
            agents_only=True,
        )
        app = self._application(nobody)
        app.router.add_post("/", api.handle)
        return app

    def _application(
        self,
        operators: Operators,
        *,
        own_names_only: bool = False,
        admits: Callable[[web.Request], bool] | None = None,
    ) -> web.Application:
        app = web.Application(middlewares=[no_pages(own_names_only=own_names_only, admits=admits)])
        app.router.add_get("/healthz", self._health)
        self._monitoring.add_routes(app.router, operators)
        self._wire.add_routes(app.router)
        self._ecs.add_routes(app.router)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        problem = await problem_of(self._parts.store)
        if problem:
            return web.Response(status=503, text=f"{problem}\n")
        # Control does its work without logs; whoever looks is told.
        return web.Response(text="".join(f"{line}\n" for line in ("ok", *self._parts.troubles())))


async def _page(parts: Parts, console: Console, *, has_keys: bool) -> PageFiles | None:
    if console is Console.OFF:
        return None
    everybody_reads = console is Console.READ_ONLY
    sign_in = "never" if not has_keys else "optional" if everybody_reads else "needed"
    return await PageFiles.load(
        PageSettings(region=parts.names.region, sign_in=sign_in), everybody_reads=everybody_reads
    )


async def variables_for_tasks(url: str, region: str) -> dict[str, str]:
    """Return the variables with which the SDKs in a task find all that is served here.

    Args:
        url: under which tasks reach this control endpoint; if empty, there are no variables.
        region: of this control endpoint.
    """
    if not url:
        return {}
    found = [model.endpoint_variable for _, model in await load_models()]
    found += [api.named.endpoint_variable for api in APIS if api.named is not None]
    return dict.fromkeys(found, url) | {
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        # Otherwise SDKs put "data-" before the host for DiscoverInstances.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }


async def load_models() -> list[tuple[Api, ApiModel]]:
    """Load the models of the served APIs, except those that are read at the first request.

    That takes a second of a processor the first time, which a control that stands by can do before it leads.
    """
    return [
        (api, await asyncio.to_thread(ApiModel.load, api.service))
        for api in APIS
        if api.named is None
    ]


async def problem_of(store: Store) -> str:
    """Return the problem that prevents control from working, for a person; empty if there is none.

    After a failure of the store this writes something: there may be no other write that would show
    that the store works again.
    """
    try:
        async with asyncio.timeout(HEALTH_LIMIT_S):
            # Not a key alone, which the store may have in memory.
            await store.range(records.CONTROL_ID_KEY, limit=1)
            if store.problem:
                await store.txn([], [Put(records.HEALTH_KEY, b"")])
    except TimeoutError:
        return f"the store did not answer within {HEALTH_LIMIT_S:g} s"
    except StoreFailure as error:
        return str(error)
    return store.problem
