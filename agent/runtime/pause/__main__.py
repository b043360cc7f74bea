"""Writes the pause image for ``docker load``: ``python -m agent.runtime.pause [ARCHITECTURE]``.

For machine images, which contain it before their first boot; the agent loads it on other hosts.
"""

from __future__ import annotations

import platform
import sys

from agent.errors import ConfigError
from agent.runtime.pause import image_archive


def main() -> int:
    """Write the archive to standard output; the default is this machine's architecture."""
    architecture = sys.argv[1] if len(sys.argv) > 1 else platform.machine()
    try:
        archive = image_archive(architecture)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
