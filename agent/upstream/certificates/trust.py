"""The TLS context towards control: whom to trust, under which name, and the certificate of this host. Blocks.

A CA file that ``join`` wrote for control's own authority begins with ``MARK``. Control then has a certificate with
``model.wire.CONTROL_NAME``, so it may be called by any name or address.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import ConfigError
from agent.model.wire import CONTROL_NAME
from agent.upstream.credentials import add_trusted, trusting

if TYPE_CHECKING:
    from pathlib import Path

    from agent.upstream.certificates.files import Identity, IdentityFiles

MARK: Final = b"# Authority of an ecs-agent control endpoint\n"


class Tls(NamedTuple):
    """How to connect."""

    context: ssl.SSLContext | bool
    """True for what the system trusts, and no certificate of this host."""
    server_name: str | None = None
    """The name that control's certificate must have; None for that of the URL."""


def is_marked(ca_file: Path) -> bool:
    """Return whether a CA file is one of control's own authority; False if it cannot be read."""
    try:
        with ca_file.open("rb") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def take_renewed(context: ssl.SSLContext, files: IdentityFiles) -> None:
    """Have a context use the renewed certificate, and trust the authorities that came with it.

    Call it in the event loop whose connections use the context, although it blocks for a moment: in a thread, a
    connection that is made meanwhile could have the certificate without its key.

    Raises:
        ConfigError: they cannot be used.
    """
    try:
        context.load_cert_chain(files.chain, password="")
        context.load_verify_locations(cafile=files.authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{files.directory}: the renewed certificate cannot be used ({error})"
        ) from None


def prepare(
    ca_file: Path | None, files: IdentityFiles | None = None, identity: Identity | None = None
) -> Tls:
    """Return how to connect.

    Args:
        ca_file: PEM file of a CA to trust besides the system's.
        files: of this host's certificate.
        identity: which certificate that is; None for none.

    Raises:
        ConfigError: the CA file cannot be used.
    """
    if ca_file is None and identity is None:
        return Tls(context=True)
    is_own = ca_file is not None and is_marked(ca_file)
    if is_own or (identity is not None and identity.control_name):
        # Nobody else signs for control, so nobody else is trusted, and no other authority is kept in memory.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if ca_file is not None:
            add_trusted(context, ca_file)
    else:
        context = trusting(ca_file) if ca_file is not None else ssl.create_default_context()
    name = CONTROL_NAME if is_own else None
    if identity is None or files is None:
        return Tls(context, name)
    try:
        context.load_cert_chain(files.chain, password="")
        if identity.control_name:
            context.load_verify_locations(cafile=files.authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{files.directory}: the certificate of this host cannot be used ({error}); remove the directory, "
            "and the agent gets another one"
        ) from None
    return Tls(context, identity.control_name or name)
