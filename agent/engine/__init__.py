"""The task engine: what to do next (``planner``, pure) and doing it (``runner``, one per task)."""
