"""Which images may be removed: never one that is in use, wanted, excluded, or that cannot come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.images import reference
from agent.images.removal_plan import (
    CleanupPolicy,
    Protected,
    Removal,
    by_age,
    least_recently_used,
)
from agent.images.uses import ImageUse
from agent.runtime.protocol import ImageSummary

NOW = 100_000.0
HOUR = 3600.0


def image(
    name: str, *tags: str, digests: tuple[str, ...] = (), created: float = 0.0
) -> ImageSummary:
    return ImageSummary(id=name, tags=tags, repo_digests=digests, created_at=created)


def use(*names: str, pulled: float = 0.0, used: float = 0.0) -> ImageUse:
    identities = tuple(reference.parse(name).identity for name in names)
    return ImageUse(names=identities, pulled_at=pulled, used_at=used)


def ids(plan: list[Removal]) -> list[str]:
    return [removal.image.id for removal in plan]


def test_the_least_recently_used_goes_first_and_only_so_many() -> None:
    images = [image(n, f"{n}:1") for n in "abc"]
    uses = {n: use(f"{n}:1", used=at) for n, at in zip("abc", (3, 1, 2), strict=True)}
    assert ids(by_age(images, uses, Protected(), CleanupPolicy(most=2), NOW)) == ["b", "c"]


def test_the_age_counts_from_the_pull() -> None:
    images = [image("a", "a:1"), image("b", "b:1")]
    uses = {"a": use("a:1", pulled=NOW - HOUR + 1), "b": use("b:1", pulled=NOW - HOUR - 1)}
    assert ids(by_age(images, uses, Protected(), CleanupPolicy(), NOW)) == ["b"]
    assert set(ids(least_recently_used(images, uses, Protected()))) == {"a", "b"}


def test_an_image_that_lost_its_tag_to_a_newer_one_goes() -> None:
    old = image("old", digests=("web@sha256:1",))
    new = image("new", "web:latest", digests=("web@sha256:2",))
    uses = {"old": use("web"), "new": use("web")}
    kept = Protected(names=frozenset({reference.parse("docker.io/library/web").identity}))
    assert ids(by_age([old, new], uses, kept, CleanupPolicy(), NOW)) == ["old"]


def test_a_name_that_somebody_gave_keeps_the_image() -> None:
    images = [image("a", "a:1", "backup:1")]
    assert by_age(images, {"a": use("a:1")}, Protected(), CleanupPolicy(), NOW) == []


def test_what_the_agent_did_not_get_stays_unless_it_is_asked_for() -> None:
    images = [image("young", "y:1", created=NOW), image("built", "b:1"), image("none")]
    assert by_age(images, {}, Protected(), CleanupPolicy(), NOW) == []
    assert ids(by_age(images, {}, Protected(), CleanupPolicy(untracked=True), NOW)) == [
        "built",
        "none",
    ]


def test_a_repository_can_be_kept_as_a_whole() -> None:
    images = [image("p", "ecs-host-agent/pause:amd64-1")]
    kept = Protected(repositories=frozenset({"ecs-host-agent/pause"}))
    assert by_age(images, {}, kept, CleanupPolicy(untracked=True), NOW) == []


_NAMES = st.sampled_from(["a:1", "a:2", "b", "docker.io/library/b:latest", "q.io/c@sha256:1"])


@st.composite
def _hosts(draw: st.DrawFn) -> tuple[list[ImageSummary], dict[str, ImageUse], Protected]:
    images, uses = [], {}
    for number in range(draw(st.integers(0, 8))):
        names = draw(st.lists(_NAMES, max_size=3, unique=True))
        made = image(
            str(number),
            *(n for n in names if "@" not in n),
            digests=tuple(n for n in names if "@" in n),
            created=draw(st.floats(0, NOW)),
        )
        images.append(made)
        if draw(st.booleans()):
            got = draw(st.lists(_NAMES, min_size=1, max_size=3))
            uses[made.id] = use(*got, pulled=draw(st.floats(0, NOW)), used=draw(st.floats(0, NOW)))
    kept = Protected(
        image_ids=frozenset(draw(st.sets(st.sampled_from("01234567"), max_size=3))),
        names=frozenset(reference.parse(n).identity for n in draw(st.sets(_NAMES, max_size=2))),
    )
    return images, uses, kept


@given(_hosts(), st.integers(1, 6), st.booleans())
def test_nothing_that_must_stay_is_ever_removed(
    host: tuple[list[ImageSummary], dict[str, ImageUse], Protected], most: int, untracked: bool
) -> None:
    images, uses, kept = host
    policy = CleanupPolicy(most=most, untracked=untracked)
    plan = by_age(images, uses, kept, policy, NOW)
    pressing = least_recently_used(images, uses, kept)
    assert len(plan) <= most
    assert len(set(ids(plan))) == len(plan)
    for removal in (*plan, *pressing):
        assert removal.image.id not in kept.image_ids
        assert not removal.identities & kept.names
        assert untracked or removal.is_tracked
        known = uses.get(removal.image.id)
        assert removal.is_tracked == (known is not None)
        if known is not None:
            tags = {reference.parse(tag).identity for tag in removal.image.tags}
            assert tags <= set(known.names)
    assert {r.image.id for r in plan if r.is_tracked} <= set(ids(pressing))
    assert [uses[i].used_at for i in ids(pressing)] == sorted(
        uses[i].used_at for i in ids(pressing)
    )
