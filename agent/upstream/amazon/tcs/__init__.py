"""Telemetry towards Amazon ECS: figures (``sets``), messages (``requests``), the session (``session``)."""
