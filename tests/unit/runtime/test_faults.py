"""Which error an answer of the engine becomes."""

from __future__ import annotations

import docker.errors
import pytest
import requests
import urllib3.exceptions

from agent.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NameConflict,
    NoSuchContainer,
    NoSuchImage,
    PortTaken,
    RuntimeFailure,
    StartForgotten,
)
from agent.runtime.docker import faults, pulls


@pytest.mark.parametrize(
    ("status", "explanation", "operation", "subject", "kind"),
    [
        (404, "No such container: abc", "inspecting", "abc", NoSuchContainer),
        (404, "No such container: other", "started", "abc", EngineRefused),
        (404, "No such container: other", "created", "", NoSuchContainer),
        (404, "No such image: x:1", "created", "", NoSuchImage),
        (404, "pull access denied for x", "pulled", "", NoSuchImage),
        (404, "manifest unknown", "MANIFEST_PULLED", "", NoSuchImage),
        (404, "network x not found", "started", "abc", EngineRefused),
        (404, "page not found", "inspecting", "", EngineRefused),
        (
            409,
            'Conflict. The container name "/x" is already in use by container "y".',
            "created",
            "",
            NameConflict,
        ),
        (409, "You cannot remove a running container", "removed", "abc", EngineRefused),
        (500, "No such container: abc", "started", "abc", EngineRefused),
        (400, "invalid reference format", "pulled", "", EngineRefused),
        (409, f"task {'0f' * 32}: already exists", "started", "abc", StartForgotten),
        (409, "id already in use", "started", "abc", StartForgotten),
        (409, "id already in use", "created", "", EngineRefused),
        (
            500,
            "driver failed: Bind for 0.0.0.0:80: port is already allocated",
            "started",
            "",
            PortTaken,
        ),
        (500, "listen tcp4 0.0.0.0:80: bind: address already in use", "started", "", PortTaken),
        (500, "exec: task 7: already exists", "started", "", EngineRefused),
    ],
)
def test_refusals(
    status: int, explanation: str, operation: str, subject: str, kind: type[RuntimeFailure]
) -> None:
    error = faults.refused(status, explanation, operation=operation, subject=subject)
    assert type(error) is kind
    assert str(error) == f"Error response from daemon: {explanation}"
    assert error.operation == operation
    assert not error.retryable


def _translate(error: Exception) -> RuntimeFailure:
    return faults.translate(error, operation="created", limit_s=240, where="unix:///x")


def test_silence_is_a_time_out() -> None:
    silence = urllib3.exceptions.ReadTimeoutError(None, "", "read")  # type: ignore[arg-type]
    for error in (
        requests.ReadTimeout("x"),
        requests.ConnectionError(silence),
        silence,
        TimeoutError(),
    ):
        found = _translate(error)
        assert isinstance(found, EngineTimeout)
        assert str(found) == "Could not transition to created; timed out after waiting 4m0s"
        assert found.limit_s == 240


def test_a_broken_connection_names_its_root() -> None:
    root = ConnectionRefusedError(111, "Connection refused")
    error = requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", root))
    found = _translate(error)
    assert type(found) is EngineUnavailable
    assert str(found) == ("cannot reach the container engine at unix:///x: Connection refused")


def test_what_the_sdk_refuses_is_refused() -> None:
    for error in (docker.errors.NullResource("no name"), docker.errors.InvalidRepository("scheme")):
        assert type(_translate(error)) is EngineRefused


def test_an_unreadable_answer_tells_nothing_about_the_outcome() -> None:
    assert type(_translate(ValueError("no JSON"))) is EngineUnavailable
    known = NoSuchImage("x")
    assert _translate(known) is known


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("manifest for x:1 not found: manifest unknown: manifest unknown", NoSuchImage),
        ("no matching manifest for linux/arm64 in the manifest list entries", NoSuchImage),
        ("error pulling image configuration: i/o timeout", EngineRefused),
    ],
)
def test_errors_inside_a_pull(text: str, kind: type[RuntimeFailure]) -> None:
    messages = [{"status": "Pulling from x"}, {"errorDetail": {"message": text}, "error": text}]
    with pytest.raises(kind, match=r"^[a-z]") as info:
        pulls.raise_refusals(messages, operation="pulled")
    assert type(info.value) is kind
    assert str(info.value) == text


def test_progress_is_thinned_out() -> None:
    lines: list[str] = []
    messages = [{"id": "a", "status": "Downloading", "progress": f"[{i}]"} for i in range(100)]
    pulls.raise_refusals([*messages, "no object"], operation="pulled", report=lines.append)
    assert lines == ["a Downloading [0]"]
