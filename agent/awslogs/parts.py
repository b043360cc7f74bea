"""What the agent needs to take logs of containers to control, put together once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from agent.awslogs.grants import LogGrants, RelayAddress
from agent.awslogs.spool import Spool
from agent.awslogs.spool_file import Bounds
from agent.model.logs import SECRET
from agent.state.secret import kept_secret

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.state import StateStore

_MB: Final = 1_000_000


class LogParts(NamedTuple):
    """The parts; ``spool`` is to be run, and closed."""

    grants: LogGrants
    address: RelayAddress
    spool: Spool

    @classmethod
    async def build(cls, settings: Settings, store: StateStore, *, first_secret: str) -> Self:
        """Build the parts of one agent.

        Args:
            settings: of the agent.
            store: keeps the secret that grants are made from.
            first_secret: what to take where the store has none; empty for a random one.

        Raises:
            StateFailure: the store cannot be read.
        """
        grants = LogGrants(await kept_secret(store, SECRET, first=first_secret))
        bounds = Bounds(
            host_bytes=settings.log_spool_mb * _MB, task_bytes=settings.log_spool_task_mb * _MB
        )
        spool = Spool(settings.data_dir / "logs" / "spool.db", bounds)
        return cls(grants, RelayAddress(grants, settings.log_relay_port), spool)
