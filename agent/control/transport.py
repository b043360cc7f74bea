"""What went wrong on the way to control, in words that name the mend. Pure."""

from __future__ import annotations

import ssl

import aiohttp

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_LIMIT = 300


def worded(error: Exception) -> str:
    """Return one line for an error of a call that got no answer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _untrusted(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return (
            f"the name {error.host} is not known here; check the URL and this host's name servers"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return _no_tls(error)
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    ):
        return f"nobody listens on {error.host}:{error.port}; start control there, or mend the URL"
    text = " ".join(str(error).split())[:_LIMIT]
    return text or type(error).__name__


def _untrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
    where = f"{error.host}:{error.port}"
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in {62, 64}:
        return f"the certificate of {where} is for another name ({why}); use the name it is for"
    return (
        f"the certificate of {where} is not trusted ({why}); set ECS_CONTROL_CA_FILE to the "
        "certificate of its authority"
    )


def _no_tls(error: aiohttp.ClientConnectorSSLError) -> str:
    cause = error.os_error
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else str(cause)
    where = f"{error.host}:{error.port}"
    if reason in _NOT_TLS:
        return (
            f"{where} does not speak TLS; write http:// in the URL, or give control a certificate"
        )
    return f"no TLS connection to {where} ({reason})"
