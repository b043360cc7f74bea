"""The protocols that an API has, and which of them a request is in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.front.codecs.cbor_rpc import HEADER, PROTOCOL, CborRpc
from agent.controlplane.front.codecs.ec2 import Ec2Query
from agent.controlplane.front.codecs.json_rpc import JsonRpc
from agent.controlplane.front.codecs.query import FORM, Query
from agent.controlplane.front.codecs.rest_json import RestJson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.front.codecs.contract import Codec, Headed
    from agent.controlplane.front.service_model import ApiModel

CODECS: Final[Mapping[str, Callable[[ApiModel], Codec]]] = {
    "json": JsonRpc,
    "query": Query,
    "ec2": Ec2Query,
    "smithy-rpc-v2-cbor": CborRpc,
    "rest-json": RestJson,
}
"""By the names of protocols in botocore's models, the first one for a request that shows none."""


class Codecs:
    """The protocols of one API."""

    def __init__(self, model: ApiModel) -> None:
        self._codecs = {
            name: make(model) for name, make in CODECS.items() if name in model.protocols
        }
        if not self._codecs:
            raise ValueError(f"{model.title} has no protocol that is served: {model.protocols}")

    def of(self, request: Headed) -> Codec:
        """Return the protocol of a request; that of an API without it tells what it expects."""
        shown = protocol_of(request)
        return self._codecs.get(shown) or next(iter(self._codecs.values()))


def protocol_of(request: Headed) -> str:
    """Return the protocol that a request shows; empty if it shows none."""
    if request.headers.get(HEADER) == PROTOCOL:
        return "smithy-rpc-v2-cbor"
    if "X-Amz-Target" in request.headers:
        return "json"
    if request.content_type == FORM or "Action=" in request.query_string:
        return "query"
    return ""
