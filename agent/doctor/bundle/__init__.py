"""The support archive: what somebody else needs to understand a host, with secrets removed.

``write`` is the one way in. Reads much of the host and changes nothing; makes one file, mode 0600,
and leaves none when it fails. A piece that cannot be had is told inside and stops no other.
"""

from __future__ import annotations

from agent.doctor.bundle.archive import default_name, write

__all__ = ["default_name", "write"]
