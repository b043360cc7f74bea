"""What the agent must not forget: records, single values and the outbox, in one SQLite file."""

from agent.state.batch import Batch
from agent.state.outbox import Outbox
from agent.state.store import StateStore

__all__ = ["Batch", "Outbox", "StateStore"]
