from __future__ import annotations

from agent.controlplane.api.table import APIS
from packager.tree import LEFT_OUT


def test_the_model_of_every_api_that_control_serves_is_packed() -> None:
    assert len(APIS) > 1
    for api in APIS:
        model = f"botocore/data/{api.service}/2020-01-01/service-2.json.gz"
        assert not any(pattern.search(model) for pattern in LEFT_OUT), api.service
