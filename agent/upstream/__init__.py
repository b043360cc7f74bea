"""Clients that bring orders from a control endpoint and carry reports to it."""
