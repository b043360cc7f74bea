"""Runs the doctor as a user other than root and prints its findings as JSON; run as a process.

The checks first run once as root, because on some machines only root may read what they import.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from agent.config import Settings
from agent.doctor.examine import examine
from agent.doctor.host import HostFacts

if TYPE_CHECKING:
    from agent.doctor.findings import Report

NOBODY = 65534


async def look(settings: Settings) -> Report:
    host = HostFacts(settings=settings)
    try:
        return await examine(host)
    finally:
        await host.close()


def main(docker_host: str, token_file: str, control: str) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    settings = Settings(
        docker_host=docker_host, control_token_file=Path(token_file), control_endpoint=control
    )
    asyncio.run(look(settings))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    sys.stdout.write(msgspec.json.encode(asyncio.run(look(settings))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
