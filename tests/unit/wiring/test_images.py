"""What the settings of images become."""

from __future__ import annotations

import pytest

from agent.config import Settings
from agent.network.sandboxes.sandbox import SANDBOX_LABEL
from agent.runtime.protocol import ContainerSummary
from agent.wiring import images


@pytest.mark.parametrize(
    ("behavior", "by_age"),
    [("default", True), ("always", True), ("once", True), ("prefer-cached", False)],
)
def test_who_prefers_cached_images_keeps_them(behavior: str, by_age: bool) -> None:
    made = images._cleanup_settings(Settings(image_pull_behavior=behavior))  # type: ignore[arg-type]
    assert made.enabled
    assert made.by_age is by_age


def test_every_setting_of_the_clean_up_arrives() -> None:
    made = images._cleanup_settings(
        Settings(
            image_cleanup_disabled=True,
            image_cleanup_interval_s=700.0,
            image_minimum_age_s=1.0,
            images_removed_per_cycle=2,
            images_excluded=("a:1",),
            untracked_cleanup=True,
            untracked_minimum_age_s=3.0,
            untracked_containers_per_cycle=4,
            task_cleanup_wait_s=5.0,
            image_disk_high=60,
            image_disk_low=50,
        )
    )
    assert not made.enabled
    assert (made.interval_s, made.containers_most, made.containers_age_s) == (700.0, 4, 5.0)
    assert (made.watermarks.high, made.watermarks.low) == (60, 50)
    assert made.excluded == ("a:1",)
    policy = made.policy
    assert (policy.minimum_age_s, policy.most) == (1.0, 2)
    assert (policy.untracked, policy.untracked_minimum_age_s) == (True, 3.0)


@pytest.mark.parametrize(
    "label", ["com.amazonaws.ecs.task-arn", "ecs-host-agent.owner", SANDBOX_LABEL]
)
def test_containers_of_agents_are_never_those_of_others(label: str) -> None:
    row = ContainerSummary(id="i", name="n", state="exited", labels={label: "x"})
    assert images._is_ours(row)
    assert not images._is_ours(ContainerSummary(id="i", name="n", state="exited"))
