from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition.rules import check_definition
from agent.controlplane.definition.support import required_attributes
from agent.controlplane.front.errors import ClientException
from tests.unit.controlplane.definition.builders import container, definition


@pytest.mark.parametrize(
    ("log", "text"),
    [
        ({"logDriver": "awslogs"}, "requires the option awslogs-group"),
        ({"logDriver": "awslogs", "options": {"awslogs-group": ""}}, "requires the option"),
        ({"logDriver": "syslog", "options": {"mode": "nonblocking"}}, "blocking or non-blocking"),
        (
            {"logDriver": "syslog", "options": {"mode": "blocking", "max-buffer-size": "1m"}},
            "needs mode non-blocking",
        ),
    ],
)
def test_log_configurations_with_which_nothing_starts(log: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException, match=text):
        check_definition(definition(container("a", logConfiguration=log)))


ROUTER = {"type": "fluentbit"}
TO_ROUTER = {"logDriver": "awsfirelens"}


@pytest.mark.parametrize(
    ("containers", "text"),
    [
        ([container("a", logConfiguration=TO_ROUTER)], "needs a container with firelens"),
        (
            [container("a", firelensConfiguration=ROUTER, logConfiguration=TO_ROUTER)],
            "cannot use awsfirelens",
        ),
        (
            [container(name, firelensConfiguration=ROUTER) for name in "ab"],
            "only one firelensConfiguration",
        ),
        (
            [container("a", firelensConfiguration={**ROUTER, "options": {"x": "y"}})],
            "option x of firelensConfiguration is not known",
        ),
        (
            [
                container(
                    "a",
                    firelensConfiguration={**ROUTER, "options": {"config-file-type": "file"}},
                )
            ],
            "together with config-file-value",
        ),
    ],
)
def test_log_routers_that_cannot_route(containers: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(ClientException, match=text):
        check_definition(definition(*containers))


def test_a_log_router_asks_for_hosts_that_have_firelens() -> None:
    checked = check_definition(
        definition(
            container("a", logConfiguration=TO_ROUTER),
            container("r", firelensConfiguration=ROUTER),
        )
    )
    assert required_attributes(checked) == [
        "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
        "ecs.capability.firelens.fluentbit",
    ]
