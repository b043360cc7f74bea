"""The support archive: what other people need to understand a host, with secrets removed.

``write`` is the only entry point. Pieces are text (``pieces``); ``redact.Redactor``, which knows
every secret value that ``secrets`` could find on the host, cleans each of them. Fields that can hold
anything (environments, commands, labels) are not collected at all.

Reads much of the host and changes nothing. Creates one file, mode 0600, and leaves none if it fails.
A piece that cannot be collected is noted inside the archive and does not affect the others.
Tests: ``tests/unit/doctor/bundle``, ``tests/integration/doctor/test_bundle.py``.
"""

from __future__ import annotations

from agent.doctor.bundle.archive import default_name, write

__all__ = ["default_name", "write"]
