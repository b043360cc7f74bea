"""Calls to APIs of AWS in the query protocol, whose answers are XML: EC2 and STS.

Uses the network. Raises only ``AwsRefused``, ``AwsUnavailable`` or ``CredentialsMissing``. XML with
a document type is refused, so that no entity is ever expanded.

Tests: ``tests/unit/aws/test_api.py``, ``tests/unit/upstream/amazon/ec2/test_tags.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from agent.aws import faults
from agent.aws.exchange import ATTEMPT_S, ATTEMPTS, AwsCall, Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from agent.aws.http import AwsHttp
    from agent.aws.keys import KeySource
    from agent.aws.signing import Signer

EC2_VERSION: Final = "2016-11-15"
STS_VERSION: Final = "2011-06-15"


class QueryApi:
    """A query API at one endpoint. The signer must be for its service."""

    def __init__(
        self,
        http: AwsHttp,
        chain: KeySource,
        signer: Signer,
        endpoint: URL,
        version: str,
        *,
        first_wait_s: float = 1.0,
    ) -> None:
        """Take how to call.

        Args:
            http: the session.
            chain: keys to sign with.
            signer: for the service.
            endpoint: where it is.
            version: of the API, for example ``EC2_VERSION``.
            first_wait_s: the longest wait after the first failure; it doubles each time.
        """
        self._version = version
        self._exchange = Exchange(http, chain, signer, endpoint, first_wait_s=first_wait_s)

    async def query(
        self,
        action: str,
        params: Mapping[str, str],
        *,
        attempts: int = ATTEMPTS,
        limit_s: float = ATTEMPT_S,
    ) -> ET.Element:
        """Make one call and return the root of its answer, with namespaces removed from tags.

        Raises:
            AwsRefused: AWS answered with an error that a retry would get again; see ``.code``.
            AwsUnavailable: no answer, an answer that is not XML, or a transient error.
            CredentialsMissing: there are no credentials to sign with.
        """
        body = urlencode({"Action": action, "Version": self._version, **params})
        root: ET.Element = await self._exchange.make(
            AwsCall(
                what=action,
                headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
                body=body.encode(),
                attempts=attempts,
                limit_s=limit_s,
                read=_tree,
                judge=xml_fault,
            )
        )
        return root


def xml_fault(status: int, headers: Mapping[str, str], body: bytes) -> faults.Fault:
    """Read an error answer of a query API, even if it is not XML. Pure."""
    try:
        root = _tree(body)
    except ValueError:
        return faults.json_fault(status, headers, body)
    code = root.findtext(".//Code") or ""
    if not code:
        return faults.json_fault(status, headers, body)
    return faults.fault(status, headers, code, root.findtext(".//Message") or "")


def _tree(body: bytes) -> ET.Element:
    """Return the root of a document; raise ``ValueError`` if it is invalid or not allowed."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the answer is not UTF-8") from None
    # The parser gets text, so no other encoding can hide these words.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("the answer declares a document type")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no document types, hence no entities
    except ET.ParseError:
        raise ValueError("the answer is not XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
