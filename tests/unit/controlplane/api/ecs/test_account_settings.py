"""Account settings: what is set, what is inherited, and what cannot be set here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from agent.controlplane.api.ecs import account_settings

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ROOT = "arn:aws:iam::000000000000:root"


async def test_effective_settings_are_listed_in_pages(endpoint: Endpoint) -> None:
    names: list[str] = []
    request = {"effectiveSettings": True, "maxResults": 4}
    while True:
        page = await endpoint.call("list_account_settings", **request)
        names += [one["name"] for one in page["settings"]]
        assert all(one["principalArn"] == ROOT for one in page["settings"])
        if "nextToken" not in page:
            break
        assert len(page["settings"]) == 4
        request["nextToken"] = page["nextToken"]
    assert names == list(account_settings.SETTINGS)


async def test_only_what_was_set_is_listed_until_it_is_deleted(endpoint: Endpoint) -> None:
    assert (await endpoint.call("list_account_settings"))["settings"] == []
    wanted = {
        "name": "containerInsights",
        "value": "enhanced",
        "principalArn": ROOT,
        "type": "user",
    }
    made = await endpoint.call(
        "put_account_setting", name="containerInsights", value="enhanced", principalArn=ROOT
    )
    assert made["setting"] == wanted
    assert (await endpoint.call("list_account_settings"))["settings"] == [wanted]
    filtered = await endpoint.call(
        "list_account_settings", name="containerInsights", value="disabled", effectiveSettings=True
    )
    assert filtered["settings"] == []
    gone = await endpoint.call("delete_account_setting", name="containerInsights")
    assert gone["setting"]["value"] == "disabled"
    assert (await endpoint.call("list_account_settings"))["settings"] == []


async def test_new_clusters_begin_with_the_setting_of_the_account(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", clusterName="before")
    await endpoint.call("put_account_setting_default", name="containerInsights", value="enabled")
    await endpoint.call("create_cluster", clusterName="after")
    await endpoint.call(
        "create_cluster",
        clusterName="own",
        settings=[{"name": "containerInsights", "value": "enhanced"}],
    )
    described = await endpoint.call(
        "describe_clusters", clusters=["before", "after", "own"], include=["SETTINGS"]
    )
    values = [cluster["settings"][0]["value"] for cluster in described["clusters"]]
    assert values == ["disabled", "enabled", "enhanced"]


@pytest.mark.parametrize(
    ("operation", "request_", "text"),
    [
        (
            "put_account_setting",
            {"name": "taskLongArnFormat", "value": "disabled"},
            (
                "taskLongArnFormat cannot be set to 'disabled': it should be one of [enabled], because "
                "ARNs always have the long format."
            ),
        ),
        (
            "put_account_setting_default",
            {"name": "containerInsights", "value": "on"},
            (
                "containerInsights cannot be set to 'on': it should be one of "
                "[disabled,enabled,enhanced]."
            ),
        ),
        (
            "put_account_setting",
            {
                "name": "containerInsights",
                "value": "enabled",
                "principalArn": "arn:aws:iam::000000000000:user/ann",
            },
            (
                "The principal 'arn:aws:iam::000000000000:user/ann' does not exist: the only one is "
                f"{ROOT}."
            ),
        ),
        (
            "list_account_settings",
            {"value": "enabled"},
            "To filter by value, also give the name of a setting.",
        ),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name(
    endpoint: Endpoint, operation: str, request_: dict[str, str], text: str
) -> None:
    assert await endpoint.refused(operation, **request_) == ("InvalidParameterException", text)


def test_every_setting_of_the_model_is_known() -> None:
    model = ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")
    assert model.shape_for("SettingName").enum == list(account_settings.SETTINGS)


@pytest.mark.parametrize("name", list(account_settings.SETTINGS))
async def test_every_default_can_be_set(endpoint: Endpoint, name: str) -> None:
    value = account_settings.SETTINGS[name].default
    made = await endpoint.call("put_account_setting", name=name, value=value)
    assert made["setting"]["value"] == value
