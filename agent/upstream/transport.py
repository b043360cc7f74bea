"""Error texts for failed connections to control, with the fix. Pure, except for ``speaks_tls``.

Tests: ``tests/unit/upstream/test_tokens.py``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp

from agent.config.addresses import CONTROL_PORT

if TYPE_CHECKING:
    from yarl import URL

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_LIMIT = 300
_SCHEMES_PORT: Final = {80: "http", 443: "https"}
_TLS_LIMIT_S: Final = 2.0
_HANG_UP_S: Final = 0.5


def worded(error: Exception) -> str:
    """Return one line for the error of a call that got no answer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _untrusted(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host} does not resolve; check the URL and this host's name servers"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return _no_tls(error)
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    ):
        return f"no process listens on {error.host}:{error.port}; {_mend_of(error.port)}"
    text = " ".join(str(error).split())[:_LIMIT]
    return text or type(error).__name__


def is_about_time(error: Exception) -> bool:
    """Return whether control's certificate was refused because of the time: over, or not begun."""
    cause = getattr(error, "certificate_error", None)
    return isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in {9, 10}


async def refuses_certificate(
    endpoint: URL, context: ssl.SSLContext, server_name: str | None
) -> bool:
    """Return whether a server ends connections with the certificate in a context, and not those without one.

    For one that hung up. With TLS 1.3 a server looks at the certificate after the handshake has ended for the client,
    and not every server says why it hangs up. Takes two seconds at most; never fails.
    """
    plain = ssl.create_default_context()
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE  # no data is sent over it
    return await _hangs_up(endpoint, context, server_name) is True and (
        await _hangs_up(endpoint, plain, server_name) is False
    )


async def _hangs_up(endpoint: URL, context: ssl.SSLContext, server_name: str | None) -> bool | None:
    """Return whether a server ends a new connection at once; None if there is no connection."""
    writer = None
    try:
        async with asyncio.timeout(_TLS_LIMIT_S):
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=context, server_hostname=server_name
            )
    except (OSError, TimeoutError, ValueError):
        return None
    try:
        async with asyncio.timeout(_HANG_UP_S):
            return not await reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        writer.transport.abort()


async def speaks_tls(endpoint: URL) -> bool:
    """Return whether a server speaks TLS; for one that did not answer plain HTTP properly.

    Tries once, for two seconds at most; never fails.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # no data is sent over it
    writer = None
    try:
        async with asyncio.timeout(_TLS_LIMIT_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except ssl.SSLError as error:
        # A TLS server may refuse, for example to get a client certificate; others fail differently.
        return (error.reason or "") not in _NOT_TLS
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()
    return True


def asked_in_plain(endpoint: URL) -> str:
    """Return the error text for a TLS server at an ``http://`` URL."""
    return f"{endpoint.host}:{endpoint.port} speaks TLS; use https:// in the URL"


def _mend_of(port: int | None) -> str:
    if port in _SCHEMES_PORT:
        return (
            f"that is the default port of {_SCHEMES_PORT[port]}:// URLs: add control's port to the "
            f"URL, {CONTROL_PORT} unless it is set to another"
        )
    return "start control there, or correct the URL"


def _untrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
    where = f"{error.host}:{error.port}"
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in {62, 64}:
        return f"the certificate of {where} is for another name ({why}); use that name in the URL"
    if is_about_time(error):
        return f"the certificate of {where} is not valid at this time ({why})"
    return (
        f"the certificate of {where} is not trusted ({why}); set ECS_CONTROL_CA_FILE to the "
        "certificate of its CA"
    )


def _no_tls(error: aiohttp.ClientConnectorSSLError) -> str:
    cause = error.os_error
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else str(cause)
    where = f"{error.host}:{error.port}"
    if reason in _NOT_TLS:
        return f"{where} does not speak TLS; use http:// in the URL, or give control a certificate"
    return f"no TLS connection to {where} ({reason})"
