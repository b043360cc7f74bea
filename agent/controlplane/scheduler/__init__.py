"""Placement: which instance a task runs on. Pure, but for ``fleet``, which reads instances from the store."""
