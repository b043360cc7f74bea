"""What the agent process sets for itself at its start."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAPS_OF_EIGHT_THREADS = """
import ctypes, sys, threading
if sys.argv[1] == "limited":
    from agent import start
    start.limit_arenas()
    start.limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
together = threading.Barrier(8)
def allocate():
    together.wait()
    assert libc.malloc(4000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, out)
libc.fclose(out)
"""


def heaps(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", HEAPS_OF_EIGHT_THREADS, how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={},
    )
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(
    getattr(ctypes.CDLL(None), "mallopt", None) is None, reason="the C library is not glibc"
)
def test_threads_share_two_heaps() -> None:
    assert heaps("unlimited") > 2
    assert heaps("limited") <= 2
