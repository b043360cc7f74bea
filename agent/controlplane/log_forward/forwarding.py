"""All forwarding of one control: opens the destinations, and runs a loop for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

import structlog

from agent.aws.api import JsonApi
from agent.aws.cloud import open_access
from agent.aws.places import service_url
from agent.aws.signing import Signer
from agent.config import load
from agent.controlplane.log_forward.cloudwatch import TARGET, CloudWatch
from agent.controlplane.log_forward.forwarder import Forwarder
from agent.controlplane.log_forward.loki import Loki

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.aws.cloud import Access
    from agent.controlplane.log_forward.chunks import Destination
    from agent.controlplane.log_forward.targets import Target
    from agent.controlplane.log_store.store import LogStore

_SERVICE: Final = "logs"
_PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def forwarders(
    store: LogStore, targets: Sequence[Target], environ: Mapping[str, str] = os.environ
) -> AsyncIterator[list[Forwarder]]:
    """Yield a forwarder for each target; run them within the block.

    Args:
        store: what is forwarded.
        targets: where to.
        environ: has the keys for AWS, and proxies.

    Raises:
        ConfigError: a variable about proxies or keys cannot be used.
    """
    known = {
        name: value
        for name, value in environ.items()
        if name.startswith("AWS_") or name.upper() in _PROXIES
    }
    settings = await asyncio.to_thread(load, known, ())
    async with open_access(settings, environ) as access:
        made = [await Forwarder.open(store, _destination(target, access)) for target in targets]
        for one in made:
            _log.info("logs are forwarded", to=one.name)
        yield made


def _destination(target: Target, access: Access) -> Destination:
    if not target.region:
        return Loki(target, access.http)
    url = service_url(_SERVICE, target.region, override=target.url, fips=access.fips)
    signer = Signer(target.region, _SERVICE, access.clock)
    return CloudWatch(target.name, JsonApi(access.http, access.chain, signer, url, TARGET))
