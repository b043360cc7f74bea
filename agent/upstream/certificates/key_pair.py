"""Makes a key pair and a certificate request: ``python -m agent.upstream.certificates.key_pair``.

Prints both as JSON, ``{"key": PEM, "request": PEM}``. A process of its own, so that the agent does not keep a library of
13 MiB in memory that it needs once in three weeks.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Final

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON, ControlUnavailable

LIMIT_S: Final = 60.0
"""For a small and busy machine."""


class KeyPair(Struct, frozen=True):
    """A private key, and the request for its certificate; ``repr`` shows neither."""

    key: str
    request: str

    def __repr__(self) -> str:
        return "KeyPair()"


def make() -> KeyPair:
    """Return a new pair (ECDSA P-256). Loads the library."""
    from cryptography import x509  # noqa: PLC0415 - see the module docstring
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KeyPair(private.decode(), request.public_bytes(serialization.Encoding.PEM).decode())


async def make_elsewhere() -> KeyPair:
    """Return a new pair, made by a process of its own.

    Raises:
        ControlUnavailable: the process failed; a later try may not.
    """
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-sP", "-m", __name__],
            # An installed agent finds its libraries through sys.path, not next to the interpreter. Nothing else of
            # the environment is needed, and it may have secrets.
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=KeyPair)
    except (*BAD_JSON, OSError, subprocess.SubprocessError) as error:
        # Its output is not shown: it may have the key.
        raise ControlUnavailable(
            f"the key of this host cannot be made ({type(error).__name__}); look at memory and disk"
        ) from None


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(make()))
