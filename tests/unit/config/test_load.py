from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from agent.config import SecretText, Settings, load
from agent.config.known import GIVEN_TO_CONTAINERS, WITHOUT_EFFECT
from agent.config.settings import variables
from agent.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ecs.config"


def _error(environ: dict[str, str], *files: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ, files)
    return str(caught.value)


def test_nothing_given_means_the_defaults() -> None:
    settings = load({}, ())
    assert settings == Settings()
    assert settings.cluster == "default"
    assert settings.data_dir == Path("/var/lib/ecs/data")
    assert settings.reserved_ports == (22, 2375, 2376, 51678, 51679)
    assert settings.task_cleanup_wait_s == 3 * 3600
    assert settings.gpu_support is None
    assert settings.warnings == ()


def test_the_environment_wins_over_files_and_a_later_file_over_an_earlier(
    tmp_path: Path, config: Path
) -> None:
    early = tmp_path / "early"
    early.write_text("ECS_CLUSTER=one\nECS_LOGLEVEL=debug\nECS_RESERVED_MEMORY=32\n")
    config.write_text("ECS_CLUSTER=two\nECS_LOGLEVEL=warn\n")
    settings = load({"ECS_CLUSTER": "three"}, (early, config))
    assert (settings.cluster, settings.log_level, settings.reserved_memory_mib) == (
        "three",
        "warn",
        32,
    )


def test_an_empty_value_counts_as_not_given(config: Path) -> None:
    config.write_text("ECS_CLUSTER=prod\nECS_LOGLEVEL=\n")
    assert load({"ECS_CLUSTER": " "}, (config,)).cluster == "prod"


def test_settings_never_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().cluster = "x"  # type: ignore[misc]


def test_two_settings_share_no_default() -> None:
    assert Settings().instance_attributes is not Settings().instance_attributes


def test_a_bad_value_names_variable_place_fault_and_mend(config: Path) -> None:
    config.write_text("# mine\nECS_CONTAINER_STOP_TIMEOUT=30\n")
    assert _error({}, config) == (
        f"{config}:2: ECS_CONTAINER_STOP_TIMEOUT: '30' is a duration without a unit; "
        "write 30s, 30m or 30h"
    )
    assert _error({"ECS_ENABLE_PROMETHEUS_METRICS": "yes"}) == (
        "environment: ECS_ENABLE_PROMETHEUS_METRICS: 'yes' is not a boolean; write true or false"
    )


def test_an_unknown_name_gets_a_suggestion() -> None:
    assert _error({"ECS_CLUSTR": "x"}) == (
        "environment: ECS_CLUSTR is not a known setting; did you mean ECS_CLUSTER?"
    )
    assert "see docs/configuration.md" in _error({"ECS_QQQQQQ": "x"})


def test_all_problems_are_told_at_once() -> None:
    text = _error({"ECS_LOGLEVL": "x", "ECS_RESERVED_MEMORY": "much", "ECS_TASK_MTU": "-1"})
    assert len(text.splitlines()) == 3


def test_foreign_variables_of_the_environment_are_not_ours() -> None:
    assert load({"PATH": "/bin", "LANG": "C", "AWS_PROFILE": "me"}, ()) == Settings()


def test_names_of_the_go_agent_are_accepted_and_listed_once() -> None:
    settings = load({"ECS_PAUSE_LABELS": "{}", "ECS_CHECKPOINT": "true"}, ())
    assert settings.warnings == (
        "settings without effect in this version: ECS_CHECKPOINT, ECS_PAUSE_LABELS",
    )


def test_names_that_an_agent_gives_its_containers_pass_quietly() -> None:
    assert load(dict.fromkeys(GIVEN_TO_CONTAINERS, "x"), ()).warnings == ()


def test_no_name_is_both_a_setting_and_without_effect() -> None:
    assert not {variable.name for variable in variables().values()} & WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("name", "value", "field", "taken"),
    [
        ("ECS_CONTAINER_STOP_TIMEOUT", "100ms", "container_stop_timeout_s", 1),
        ("ECS_CONTAINER_START_TIMEOUT", "1s", "container_start_timeout_s", 45),
        ("ECS_CONTAINER_CREATE_TIMEOUT", "1s", "container_create_timeout_s", 60),
        ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "1s", "image_pull_inactivity_timeout_s", 60),
        ("ECS_MANIFEST_PULL_TIMEOUT", "1s", "manifest_pull_timeout_s", 30),
        ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1ms", "task_cleanup_wait_s", 10800),
        ("ECS_POLLING_METRICS_WAIT_DURATION", "1h", "metrics_interval_s", 20),
    ],
)
def test_values_out_of_bounds_are_moved_with_a_warning(
    name: str, value: str, field: str, taken: float
) -> None:
    settings = load({name: value}, ())
    assert getattr(settings, field) == taken
    assert len(settings.warnings) == 1
    assert name in settings.warnings[0]
    assert value in settings.warnings[0]


def test_registry_credentials_need_both_halves_and_are_never_shown() -> None:
    assert "without ECS_ENGINE_AUTH_TYPE" in _error({"ECS_ENGINE_AUTH_DATA": '{"a": {}}'})
    assert "without ECS_ENGINE_AUTH_DATA" in _error({"ECS_ENGINE_AUTH_TYPE": "docker"})
    both = {"ECS_ENGINE_AUTH_TYPE": "docker", "ECS_ENGINE_AUTH_DATA": '{"canary": {}}'}
    settings = load(both, ())
    assert settings.engine_auth_data == SecretText('{"canary": {}}')
    assert "canary" not in repr(settings)
    assert "canary" not in _error({**both, "ECS_ENGINE_AUTH_DATA": "{canary"})


def test_a_password_in_a_url_is_not_repeated() -> None:
    assert "canary" not in _error({"ECS_CONTROL_ENDPOINT": "http://me:canary@host"})


def test_a_socket_path_that_the_kernel_cannot_take_is_refused() -> None:
    assert "107 bytes" in _error({"ECS_AGENT_SOCKET": f"/{'x' * 120}"})


def test_a_low_watermark_is_below_the_high_one() -> None:
    told = _error({"ECS_IMAGE_DISK_HIGH": "70"}) + _error({"ECS_IMAGE_DISK_LOW": "85"})
    assert "ECS_IMAGE_DISK_LOW (80) is not below ECS_IMAGE_DISK_HIGH (70)" in told
    assert "ECS_IMAGE_DISK_LOW (85) is not below ECS_IMAGE_DISK_HIGH (85)" in told


def test_whether_the_cluster_was_given_is_known(config: Path) -> None:
    assert not load({}, ()).cluster_given
    assert not load({"ECS_CLUSTER": ""}, ()).cluster_given
    assert load({"ECS_CLUSTER": "default"}, ()).cluster_given


def test_a_bare_backend_host_is_asked_over_https() -> None:
    assert load({"ECS_BACKEND_HOST": "ecs.test:8443"}, ()).backend_host == "https://ecs.test:8443"
    plain = load({"ECS_BACKEND_HOST": "http://127.0.0.1:5000/"}, ())
    assert plain.backend_host == "http://127.0.0.1:5000"
    assert load({"ECS_BACKEND_HOST": "http.test"}, ()).backend_host == "https://http.test"


@pytest.mark.parametrize("text", ["ftp://x", "http:/127.0.0.1:6820", "https:ecs.test"])
def test_a_backend_that_is_no_url_is_refused(text: str) -> None:
    assert "is not an http or https URL" in _error({"ECS_BACKEND_HOST": text})


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
)
def test_keys_are_never_shown(name: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_SESSION_TOKEN": "ST"}
    settings = load({**keys, name: "canary"}, ())
    assert "canary" not in repr(settings)
    assert "canary" not in _error({**keys, name: "canary bird"})
    assert "canary" not in _error({**keys, name: "canary", "AWS_ACCESS_KEY_ID": ""})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "a"}, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "a"}, "AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"),
        ({"AWS_SESSION_TOKEN": "a"}, "AWS_SESSION_TOKEN is set without its access key"),
        ({"ECS_EXTERNAL": "true"}, "ECS_EXTERNAL is set without AWS_DEFAULT_REGION"),
    ],
)
def test_halves_are_refused(given: dict[str, str], told: str) -> None:
    assert f"environment: {told}" in _error(given)
    # Nothing of it counts where control is one of ours.
    if "ECS_EXTERNAL" not in given:
        load({**given, "ECS_CONTROL_ENDPOINT": "http://c:6820"}, ())


def test_an_endpoint_of_ecs_needs_no_region() -> None:
    settings = load({"ECS_EXTERNAL": "true", "ECS_BACKEND_HOST": "http://127.0.0.1:6820"}, ())
    assert (settings.aws_region, settings.warnings) == ("", ())


def test_a_host_has_one_control(config: Path) -> None:
    config.write_text("ECS_CONTROL_ENDPOINT=http://c:6820\n")
    both = {"ECS_BACKEND_HOST": "ecs.test", "ECS_EXTERNAL": "1"}
    text = _error(both, config)
    assert len(text.splitlines()) == 2
    assert text.splitlines()[0] == (
        "environment: ECS_BACKEND_HOST selects Amazon ECS, but ECS_CONTROL_ENDPOINT "
        f"({config}:1) selects another control endpoint; remove one of the two"
    )


def test_what_only_amazon_ecs_asks_for_is_told_where_control_is_ours(config: Path) -> None:
    config.write_text(
        "ECS_CONTROL_ENDPOINT=http://c:6820\nAWS_DEFAULT_REGION=eu-west-1\nECS_EXTERNAL=false\n"
    )
    foreign = {"AWS_ACCESS_KEY_ID": "a", "HTTP_PROXY": "p:1", "ECS_WARM_POOLS_CHECK": "true"}
    assert load(foreign, (config,)).warnings == (
        "settings without effect while ECS_CONTROL_ENDPOINT is set: ECS_WARM_POOLS_CHECK",
    )


def test_what_only_an_endpoint_asks_for_is_told_where_there_is_none() -> None:
    settings = load({"ECS_CONTROL_TOKEN_FILE": "/t", "AWS_DEFAULT_REGION": "eu-west-1"}, ())
    told = "settings without effect while ECS_CONTROL_ENDPOINT is not set: ECS_CONTROL_TOKEN_FILE"
    assert settings.warnings == (told,)


def test_a_proxy_may_be_given_in_small_letters_and_the_other_name_wins(config: Path) -> None:
    config.write_text("http_proxy=file:1\nhttps_proxy=file:2\n")
    settings = load({"http_proxy": "small:1", "HTTP_PROXY": "large:1"}, (config,))
    assert settings.http_proxy == "http://large:1"
    assert settings.https_proxy == "http://file:2"
    assert load({"http_proxy": "small:1"}, (config,)).http_proxy == "http://small:1"


def test_a_proxy_that_cannot_be_used_is_left_aside_where_it_was_meant_for_others(
    config: Path,
) -> None:
    settings = load({"HTTPS_PROXY": "socks5://me:canary@p:1"}, ())
    assert settings.https_proxy == ""
    assert settings.warnings == (
        (
            "environment: HTTPS_PROXY: its value is not an HTTP proxy; "
            "use an http:// or https:// proxy; it is ignored"
        ),
    )
    config.write_text("HTTPS_PROXY=socks5://me:canary@p:1\n")
    assert "canary" not in _error({}, config)


def test_a_proxys_password_is_not_shown(config: Path) -> None:
    settings = load({"HTTPS_PROXY": "http://me:canary@p:1"}, ())
    assert settings.https_proxy == "http://me:canary@p:1"
    assert "canary" not in repr(settings)


def test_a_mistyped_name_of_others_gets_a_suggestion(config: Path) -> None:
    config.write_text("AWS_DEFAULT_REGON=eu-west-1\nFOO=1\n")
    assert load({}, (config,)).warnings == (
        (
            "settings without effect in this version: "
            "AWS_DEFAULT_REGON (did you mean AWS_DEFAULT_REGION?), FOO"
        ),
    )


def test_the_network_between_hosts_needs_our_control_and_addresses_of_the_host() -> None:
    ours = {"ECS_CONTROL_ENDPOINT": "http://192.0.2.1:6820", "ECS_FLEET_NETWORK": "routes"}
    assert load(ours, ()).fleet_network == "routes"
    assert load(ours | {"ECS_TASK_NETWORK_DRIVER": "routed"}, ()).fleet_network == "routes"
    assert "set ECS_CONTROL_ENDPOINT" in _error({"ECS_FLEET_NETWORK": "routes"})
    alone = {"ECS_TASK_POOL_CIDR": "none", "ECS_HOST_IPV6_ADDRESS": "2001:db8::1"}
    assert load(ours | alone, ()).fleet_network == "routes"
    assert "is not an IPv6 address" in _error(ours | {"ECS_HOST_IPV6_ADDRESS": "192.0.2.1"})
    assert "less than an hour" in _error(ours | {"ECS_FLEET_KEY_ROTATION": "59m"})
    assert "with macvlan" in _error(
        ours | {"ECS_TASK_NETWORK_DRIVER": "macvlan", "ECS_TASK_NETWORK_PARENT": "eth0"}
    )
