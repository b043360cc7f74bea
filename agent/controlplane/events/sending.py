"""Opens the webhook of one control, if the operator has set one; imports nothing for it otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from agent.controlplane.events.webhook import EventWebhook
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Store

_PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})


@contextlib.asynccontextmanager
async def webhook(
    file: Path | None,
    store: Store,
    names: Names,
    clock: Callable[[], float],
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[EventWebhook | None]:
    """Yield what delivers events; None if there is no file. Run it within the block.

    Args:
        file: names the webhook.
        store: whose events are sent.
        names: of the control endpoint.
        clock: Unix seconds.
        environ: has proxies.

    Raises:
        ConfigError: the file names no webhook, or the URL of a proxy is invalid.
        StoreFailure: the place cannot be read or written.
    """
    if file is None:
        yield None
        return
    from agent.aws.http import AwsHttp, Proxies  # noqa: PLC0415 - only where there is a webhook
    from agent.config import load  # noqa: PLC0415 - as above
    from agent.controlplane.events.webhook import EventWebhook  # noqa: PLC0415 - as above

    known = {name: value for name, value in environ.items() if name.upper() in _PROXIES}
    settings = await asyncio.to_thread(load, known, ())
    proxies = Proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy)
    async with AwsHttp(proxies) as http:
        made = await EventWebhook.open(store, names, clock, http, file)
        try:
            yield made
        finally:
            await made.close()
