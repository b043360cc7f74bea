"""A log router for tests: does what a configuration of Fluent Bit says, as far as FireLens writes one.

Usage: forward_receiver.py CONFIGURATION [SECONDS-UNTIL-IT-LISTENS]

Runs by itself, on any Python: listens where the ``[INPUT]`` sections say, speaks the forward protocol, adds
the fields of ``record_modifier``, and writes each record that an ``[OUTPUT]`` matches as a line of JSON.
Source of the protocol: Fluentd, "Forward Protocol Specification v1". No test imports it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import signal
import struct
import sys
from pathlib import Path
from time import sleep
from typing import Any

NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))
SIZES = {
    0xC4: "B",
    0xC5: "H",
    0xC6: "I",
    0xD9: "B",
    0xDA: "H",
    0xDB: "I",
    0xDC: "H",
    0xDD: "I",
    0xDE: "H",
    0xDF: "I",
    0xC7: "B",
    0xC8: "H",
    0xC9: "I",
}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def sections(path: str) -> list[tuple[str, list[list[str]]]]:
    """Return name and lines of each section, a line as key and value."""
    found: list[tuple[str, list[list[str]]]] = []
    for line in map(str.strip, Path(path).read_text().splitlines()):
        if line.startswith("["):
            found.append((line.strip("[]"), []))
        elif line and not line.startswith("@"):
            found[-1][1].append(line.split(None, 1))
    return found


def table(lines: list[list[str]]) -> dict[str, str]:
    """Return the lines of a section by their keys."""
    return {line[0]: line[1] for line in lines}


class More(Exception):
    """The rest of a message has not come yet."""


class Unpacker:
    """As much of MessagePack as the engine's driver writes."""

    def __init__(self) -> None:
        self.data, self.at = b"", 0

    def feed(self, data: bytes) -> list[Any]:
        """Return the messages that are whole now."""
        self.data, self.at = self.data[self.at :] + data, 0
        messages, begin = [], 0
        while True:
            try:
                messages.append(self.one())
            except More:
                self.at = begin
                return messages
            begin = self.at

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise More
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f">{code}", self.take(struct.calcsize(code)))[0]

    def one(self) -> Any:
        first = self.take(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first < 0xC0:
            kind = 0xDE if first <= 0x8F else 0xDC if first <= 0x9F else 0xD9
            return self.sized(kind, first & (0x1F if kind == 0xD9 else 0x0F))
        if first in CONSTANTS:
            return CONSTANTS[first]
        if first in NUMBERS:
            return self.number(NUMBERS[first])
        if first in SIZES:
            return self.sized(first, self.number(SIZES[first]))
        return self.take(1 + (1 << (first - 0xD4)))  # an extension of a fixed size

    def sized(self, kind: int, size: int) -> Any:
        if kind in (0xDC, 0xDD):
            return [self.one() for _ in range(size)]
        if kind in (0xDE, 0xDF):
            return {self.one(): self.one() for _ in range(size)}
        if kind in (0xC7, 0xC8, 0xC9):
            return self.take(size + 1)
        return self.take(size).decode(errors="replace")


class Router:
    """One router."""

    def __init__(self, path: str) -> None:
        self.parts = sections(path)
        self.fields = dict(
            value.split(None, 1)
            for kind, lines in self.parts
            if kind == "FILTER" and ["Name", "record_modifier"] in lines
            for key, value in lines
            if key == "Record"
        )
        self.outputs = [table(lines) for kind, lines in self.parts if kind == "OUTPUT"]

    async def serve(self) -> None:
        for kind, lines in self.parts:
            given = table(lines)
            if kind == "INPUT" and "unix_path" in given:
                await asyncio.start_unix_server(self.read, given["unix_path"])
            elif kind == "INPUT" and given["Name"] == "forward":
                await asyncio.start_server(self.read, given["Listen"], int(given["Port"]))
        await asyncio.Event().wait()

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = Unpacker()
        while data := await reader.read(65536):
            for tag, time, *rest in unpacker.feed(data):
                entries = time if isinstance(time, list) else [[time, rest[0]]]
                for _, record in entries:
                    self.put(tag, {**record, **self.fields})
        writer.close()

    def put(self, tag: str, record: dict[str, Any]) -> None:
        for output in self.outputs:
            if fnmatch.fnmatch(tag, output["Match"]):
                line = {"tag": tag, "to": output, "record": record}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # as PID 1 it would ignore that
    sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    asyncio.run(Router(sys.argv[1]).serve())
