"""The calls of a run of Terraform: taken by a relay, kept as a recording, and made again without it.

A recording is a list of steps. In what a step sends, ``{{7:service/serviceArn}}`` stands for what the response
of step 7 has there, because ids differ from run to run. Of a response, the status, the code of an error and the
shape are kept: which members were there when Terraform was content with it.

Reads that repeat are left out, and so are calls that failed and were made again until they were let.
"""

from __future__ import annotations

import json
import re
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FORM = "application/x-www-form-urlencoded"
RECORDING: Final = (
    Path(__file__).parents[1] / "unit" / "controlplane" / "api" / "terraform_calls.json"
)
_LISTS: Final = frozenset({"item", "member"})
_LEAST: Final = 15
"""Characters of a value of a response that is looked for in later requests."""
_PLACE: Final = re.compile(r"\{\{(\d+):([^}]*)\}\}")
_REQUEST_ID: Final = re.compile(r"(?i)<requestid>[^<]*")
_FAILED: Final = 400


class Call(NamedTuple):
    """A call and its answer."""

    service: str
    """The name in the scope of the signature."""
    verb: str
    url: str
    """Path and query."""
    target: str
    content_type: str
    sent: str
    status: int = 0
    answer: str = ""
    error: str = ""
    """The code of an error, if a header has it."""

    @property
    def operation(self) -> str:
        """Its name; for protocols without one, verb and path."""
        if self.content_type.startswith(FORM):
            return dict(parse_qsl(self.sent))["Action"]
        return self.target.rpartition(".")[2] or f"{self.verb} {urlsplit(self.url).path}"

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.operation.startswith(("Describe", "Get", "List", "GET "))


# The relay -------------------------------------------------------------------------------------


class Relay:
    """Hands calls on to a control endpoint unchanged, and keeps them. Use it with ``with``."""

    def __init__(self, control: str) -> None:
        self.calls: list[Call] = []
        """In the order in which they arrived; those without an answer have the status 0."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._control = urlsplit(control).netloc
        self._lock = Lock()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hand_on(
        self, verb: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Make a call and return the status, the headers and the body of its answer."""
        call = Call(
            service=headers["Authorization"].split("/")[3],
            verb=verb,
            url=url,
            target=headers.get("X-Amz-Target", ""),
            content_type=headers.get("Content-Type", ""),
            sent=body.decode(),
        )
        with self._lock:
            place = len(self.calls)
            self.calls.append(call)
        control = HTTPConnection(self._control, timeout=60)
        try:
            # With all headers as they are, "Host" among them: they are signed.
            control.putrequest(verb, url, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                control.putheader(name, value)
            control.endheaders(body)
            answer = control.getresponse()
            told = answer.read()
        finally:
            control.close()
        code = answer.getheader("X-Amzn-ErrorType", "")
        self.calls[place] = call._replace(status=answer.status, answer=told.decode(), error=code)
        return answer.status, answer.getheaders(), told


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, relay: Relay, *arguments: Any) -> None:
        self._relay = relay
        super().__init__(*arguments)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, answer = self._relay.hand_on(
            self.command, self.path, dict(self.headers.items()), body
        )
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


# The recording ---------------------------------------------------------------------------------


def record(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return the steps of calls that have an answer."""
    steps: list[dict[str, Any]] = []
    known: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    said = ""
    for index, call in enumerate(calls):
        if call.status >= _FAILED and any(_is_retry(one, call) for one in calls[index + 1 :]):
            continue
        if not call.is_read:
            seen.clear()
        what = (call.operation, call.url, call.sent, _REQUEST_ID.sub("", call.answer))
        if what in seen:
            continue
        seen.add(what)
        # What came from Terraform is no id of control's.
        said += f"\n{unquote_plus(call.url)}\n{unquote_plus(call.sent)}"
        answer = parsed(call.answer)
        step = {**_request(call, known), "status": call.status}
        if call.status >= _FAILED:
            step["error"] = call.error or error_code(answer)
        else:
            step["shape"] = shape(answer)
        for place, value in _leaves(answer):
            if len(value) >= _LEAST and not value.isdigit() and value not in said:
                known.setdefault(value, f"{{{{{len(steps)}:{place}}}}}")
        steps.append(step)
    return steps


def _is_retry(call: Call, failed: Call) -> bool:
    same = (call.operation, call.url, call.sent) == (failed.operation, failed.url, failed.sent)
    return same and not call.is_read and call.status < _FAILED


def _request(call: Call, known: Mapping[str, str]) -> dict[str, Any]:
    url = urlsplit(call.url)
    kept: dict[str, Any] = {
        "service": call.service,
        "verb": call.verb,
        "path": [unquote(part) for part in url.path.split("/")[1:]],
        "query": dict(parse_qsl(url.query)),
        "target": call.target,
        "type": call.content_type,
    }
    if call.content_type.startswith(FORM):
        kept["form"] = dict(parse_qsl(call.sent, keep_blank_values=True))
    elif call.sent:
        kept["json"] = json.loads(call.sent)
    kept = {name: value for name, value in kept.items() if value}
    by_length = sorted(known, key=len, reverse=True)

    def placed(text: str) -> str:
        pieces = [text]
        for value in by_length:
            pieces = [
                part
                for piece in pieces
                for part in (
                    [piece] if _PLACE.fullmatch(piece) else _split(piece, value, known[value])
                )
            ]
        return "".join(pieces)

    for name in ("path", "query", "form", "json"):
        if name in kept:
            kept[name] = _mapped(kept[name], placed)
    return kept


def _split(text: str, value: str, place: str) -> list[str]:
    parts = text.split(value)
    return [part for one in parts[:-1] for part in (one, place)] + [parts[-1]]


def keep(calls: Sequence[Call]) -> None:
    """Write the recording of calls to ``RECORDING``, one step a line."""
    steps = record([call for call in calls if call.status])
    lines = ",\n".join(json.dumps(step, separators=(",", ":")) for step in steps)
    RECORDING.write_text(f"[\n{lines}\n]\n")


# Playing it ------------------------------------------------------------------------------------


class Player:
    """Makes the requests of steps out of earlier answers."""

    def __init__(self) -> None:
        self._answers: list[Any] = []

    def request(self, step: Mapping[str, Any]) -> tuple[str, str, dict[str, str], bytes]:
        """Return verb, path, headers and body of a step."""
        parts = "/".join(quote(part, safe="") for part in self._filled(step.get("path", [""])))
        query = urlencode(self._filled(step.get("query", {})))
        # Not signed: the control of the test is open. The scope still says for which service it is.
        headers = {
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20300101/us-east-1/"
            f"{step['service']}/aws4_request, SignedHeaders=host;x-amz-date, Signature=00",
            "X-Amz-Date": "20300101T000000Z",
        }
        if "type" in step:
            headers["Content-Type"] = step["type"]
        if "target" in step:
            headers["X-Amz-Target"] = step["target"]
        body = b""
        if "form" in step:
            body = urlencode(self._filled(step["form"])).encode()
        elif "json" in step:
            body = json.dumps(self._filled(step["json"])).encode()
        return step["verb"], f"/{parts}" + (f"?{query}" if query else ""), headers, body

    def answered(self, answer: Any) -> None:
        """Take what the step was answered, parsed."""
        self._answers.append(answer)

    def _filled(self, value: Any) -> Any:
        return _mapped(value, lambda text: _PLACE.sub(self._at, text))

    def _at(self, found: re.Match[str]) -> str:
        value = self._answers[int(found[1])]
        for name in found[2].split("/"):
            value = value[int(name)] if isinstance(value, list) else value[name.replace("~", "/")]
        return str(value)


def parsed(text: str) -> Any:
    """Return a response as dictionaries, lists and texts; an empty one as an empty dictionary."""
    if not text.strip():
        return {}
    return _of_xml(ET.fromstring(text)) if text.lstrip().startswith("<") else json.loads(text)  # noqa: S314


def error_code(answer: Any) -> str:
    """Return the code of an error; empty if the protocol has it in a header."""
    if "__type" in answer:
        return str(answer["__type"]).rpartition("#")[2]
    found = answer.get("Error") or answer.get("Errors", {}).get("Error") or {}
    return str(found.get("Code", ""))


def shape(answer: Any) -> Any:
    """Return the members that a response has; of a list, those that all its items have."""
    if isinstance(answer, dict):
        return {
            name: shape(value)
            for name, value in answer.items()
            if name not in ("ResponseMetadata", "requestId")
        }
    if isinstance(answer, list):
        return [_common([shape(one) for one in answer])] if answer else []
    return 0


def missing(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Return what a shape has that a response has not; a list without items is as good as any.

    In XML, an empty list and an empty text are the same, so nothing is asked of what is or was a text.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [place]
        return [
            gap
            for name, inner in wanted.items()
            for gap in (
                missing(inner, found[name], f"{place}/{name}")
                if name in found
                else [f"{place}/{name}"]
            )
        ]
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return []
        return [
            gap
            for inner in wanted
            for index, one in enumerate(found)
            for gap in missing(inner, one, f"{place}/{index}")
        ]
    return []


def _common(shapes: list[Any]) -> Any:
    first = shapes[0]
    if not all(isinstance(one, dict) for one in shapes):
        return first
    return {name: inner for name, inner in first.items() if all(name in one for one in shapes)}


def _of_xml(element: ET.Element) -> Any:
    children = list(element)
    if not children:
        return element.text or ""
    names = [child.tag.rpartition("}")[2] for child in children]
    if set(names) <= _LISTS:
        return [_of_xml(child) for child in children]
    return {name: _of_xml(child) for name, child in zip(names, children, strict=True)}


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            step = str(name).replace("/", "~")
            yield from _leaves(inner, f"{place}/{step}" if place else step)
    elif isinstance(value, str):
        yield place, value


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value
