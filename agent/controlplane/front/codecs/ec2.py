"""ec2Query: the dialect of the query protocol that only Amazon EC2 has. Pure.

In a request, every list is ``Name.1``, ``Name.2``, and names begin with a capital letter. Answers have no
element around the result, and errors are in a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.front.codecs.query import (
    Query,
    Tree,
    numbered,
    read_scalar,
    reply,
    write_members,
    xml_text,
)
from agent.controlplane.front.signatures import SignatureOutOfDate

if TYPE_CHECKING:
    from agent.controlplane.front.codecs.contract import Reply
    from agent.controlplane.front.errors import ApiError

_CODES: Final = {
    "AccessDeniedException": ("UnauthorizedOperation", 403),
    "ExpiredTokenException": ("RequestExpired", 400),
    "InvalidSignatureException": ("AuthFailure", 401),
    "MissingAuthenticationTokenException": ("AuthFailure", 401),
    "UnrecognizedClientException": ("AuthFailure", 401),
}
"""What EC2 calls errors that other APIs have too. Source: "Error codes for the Amazon EC2 API"."""


class Ec2Query(Query):
    """The EC2 protocol of one API."""

    def read_request(self, shape: Any, tree: Tree) -> dict[str, Any]:
        """Return the parameters of a request; raises ``SerializationException``."""
        return _structure(shape, tree)

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response."""
        shape = self.model.output_shape(operation)
        members = [] if shape is None else write_members(shape, response)
        text = (
            f'<{operation}Response xmlns="{self.model.xml_namespace}">'
            f"<requestId>{request_id}</requestId>{''.join(members)}</{operation}Response>"
        )
        return reply(200, text, request_id)

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error, by its name and status in this protocol."""
        code, status = _CODES.get(error.name) or self.model.query_error(error)
        if isinstance(error, SignatureOutOfDate):
            code, status = _CODES["ExpiredTokenException"]
        text = (
            f"<Response><Errors><Error><Code>{xml_text(code)}</Code>"
            f"<Message>{xml_text(str(error))}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
        return reply(status, text, request_id)


def _structure(shape: Any, tree: Tree) -> dict[str, Any]:
    result = {}
    for name, member in shape.members.items():
        below = tree.get(_sent_name(member, name))
        if below is not None:
            result[name] = _value(member, below, name)
    return result


def _value(shape: Any, tree: Tree, path: str) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape, tree)
        case "list":
            return [_value(shape.member, item, path) for item in numbered(tree)]
        case kind:
            return read_scalar(kind, str(tree.get(None, "")), path)


def _sent_name(shape: Any, otherwise: str) -> str:
    named = shape.serialization
    if "queryName" in named:
        return str(named["queryName"])
    name = str(named.get("name", otherwise))
    return name[:1].upper() + name[1:]
