"""Sandboxes from creation to removal: pause container, link, address, recovery after a crash.

Imports every other package of the room; ``task_claims`` and ``upkeep`` above it decide who has which sandbox.
"""
