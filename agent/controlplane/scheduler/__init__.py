"""Placement: which instance a task runs on. Pure: no I/O, no clock, nothing of the store."""
