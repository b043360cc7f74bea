"""What a task can do with raw sockets: send any frame, and read everything that its link receives.

As a program it runs in a task's network namespace (``Raw``), with only the capabilities that the
engine gives a container by default. The rest creates frames.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import subprocess
import sys
import time

INTERFACE = "eth0"
BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN, QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
_EVERYTHING = 0x0003
UDP_SOURCE = 40_000
"""Source port of our datagrams."""
_PROMISCUOUS = 1
_ADD_MEMBERSHIP = 1
_SOL_PACKET = 263
DEFAULT_CAPABILITIES = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,"
    "sys_chroot,mknod,audit_write,setfcap"
)
"""Docker's default capabilities."""


def mac_bytes(mac: str) -> bytes:
    """Return a MAC in binary form."""
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, target: str, kind: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """Return a frame; each tag is an EtherType and a VLAN number, the outer one first."""
    tagged = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return mac_bytes(target) + mac_bytes(source) + tagged + struct.pack("!H", kind) + payload


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """Return the payload of an ARP message; sender and target are MAC and IPv4 address."""
    ends = b"".join(mac_bytes(mac) + socket.inet_aton(ipv4) for mac, ipv4 in (sender, target))
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + ends


def udp(source: str, target: str, port: int, text: bytes) -> bytes:
    """Return an IPv4 packet with a datagram."""
    return ipv4(source, target, 17, struct.pack("!HHHH", UDP_SOURCE, port, 8 + len(text), 0) + text)


def icmp(source: str, target: str, kind: tuple[int, int], rest: bytes, about: bytes) -> bytes:
    """Return an IPv4 packet with an ICMP error: type, code, and the packet that it is about."""
    message = struct.pack("!BBH", *kind, 0) + rest + about
    return ipv4(source, target, 1, message[:2] + _checksum(message) + message[4:])


def ipv4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + addresses
    return head[:10] + _checksum(head) + head[12:] + payload


def ipv6(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv6 packet; the checksum of ICMPv6 is computed."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    if protocol == 58:
        pseudo = ends + struct.pack("!II", len(payload), protocol)
        payload = payload[:2] + _checksum(pseudo + payload) + payload[4:]
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ends + payload


def _checksum(data: bytes) -> bytes:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


class Raw:
    """Raw sockets in the network namespace of a process."""

    def __init__(self, pid: int) -> None:
        self._enter = [
            "nsenter", "-t", str(pid), "-n", "setpriv", "--inh-caps=-all",
            "--bounding-set=-all," + ",".join(f"+{c}" for c in DEFAULT_CAPABILITIES.split(",")),
            sys.executable, __file__,
        ]  # fmt: skip

    def send(self, *frames: bytes) -> None:
        """Send frames, in this order."""
        command = [*self._enter, "send"]
        text = "\n".join(frame.hex() for frame in frames)
        subprocess.run(command, input=text, text=True, timeout=30, check=True)

    def sees(self, needle: bytes) -> Sniffer:
        """Return a reader that looks for these bytes in everything received from now on."""
        return Sniffer([*self._enter, "sniff", needle.hex()])


class Sniffer(contextlib.AbstractContextManager["Sniffer"]):
    """Reads a link until it has seen the bytes."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._read(20.0) == "ready", "no raw socket"

    def has_seen(self, within_s: float = 1.5) -> bool:
        """Return whether the bytes were seen, now or within this time."""
        return self._read(within_s) == "seen"

    def _read(self, within_s: float) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(within_s):
                return ""
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _send() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((INTERFACE, 0))
        for line in sys.stdin.read().split():
            for _ in range(100):
                try:
                    raw.send(bytes.fromhex(line))
                except OSError:  # the queue of the link is full
                    time.sleep(0.001)
                else:
                    break


def _sniff(needle: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING)) as raw:
        raw.bind((INTERFACE, _EVERYTHING))
        number = socket.if_nametoindex(INTERFACE)
        every = struct.pack("iHH8s", number, _PROMISCUOUS, 0, bytes(8))
        raw.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, every)
        os.write(1, b"ready\n")
        while True:
            data, address = raw.recvfrom(65_536)
            if address[2] != socket.PACKET_OUTGOING and needle in data:
                os.write(1, b"seen\n")
                return


if __name__ == "__main__":
    if sys.argv[1] == "send":
        _send()
    else:
        _sniff(bytes.fromhex(sys.argv[2]))
