from __future__ import annotations

import base64
import json

from agent.doctor.bundle import secrets

AUTH_DATA = json.dumps(
    {
        "https://r.example": {"username": "bob", "password": "hunter2", "email": "bob@r.example"},
        "r2.example": {"auth": base64.b64encode(b"eve:swordfish").decode()},
    }
)


def test_registry_credentials_give_their_passwords_and_not_their_users() -> None:
    known = secrets.of_json(AUTH_DATA)
    assert {AUTH_DATA, "hunter2", "swordfish", "eve:swordfish"} <= known
    assert not {"bob", "bob@r.example"} & known


def test_a_settings_file_gives_what_it_must_not_show() -> None:
    known = secrets.of_settings_file(
        "ECS_CLUSTER=prod\n"
        f"ECS_ENGINE_AUTH_DATA={AUTH_DATA}\n"
        "AWS_SECRET_ACCESS_KEY='abcdef'\n"
        "HTTP_PROXY=http://u:p@proxy\n"
        "# a comment\n"
        "a-token-pasted-by-accident\n"
        "export X=pasted-too\n"
    )
    assert {"hunter2", "abcdef", "http://u:p@proxy", "a-token-pasted-by-accident"} <= known
    assert {"a-token-pasted-b", "pasted-too"} <= known
    assert "prod" not in known


def test_a_settings_file_is_shown_without_what_may_be_secret() -> None:
    text = (
        "# mine\nECS_CLUSTER=prod\nECS_CONTROL_TOKEN_FILE=/etc/ecs/token\n"
        f"ECS_ENGINE_AUTH_DATA={AUTH_DATA}\nECS_MISTYPED=hunter3\nno setting at all\n"
    )
    shown = secrets.shown_settings(text, name="ecs.config")
    assert shown.splitlines() == [
        "# mine",
        "ECS_CLUSTER=prod",
        "ECS_CONTROL_TOKEN_FILE=/etc/ecs/token",
        "ECS_ENGINE_AUTH_DATA=[removed]",
        "ECS_MISTYPED=[removed]",
        "[removed: line 6 is not a setting; 17 characters]",
    ]


def test_a_token_file_gives_its_tokens_however_it_is_written() -> None:
    known = secrets.of_token_file("# mine\n0123456789abcdef\n\nnot quite one\n")
    assert {"0123456789abcdef", "not quite one", "quite"} <= known
    assert "# mine" not in known


def test_the_environment_gives_what_its_names_call_secret() -> None:
    environ = {"DB_PASSWORD": "hunter2", "ECS_ENGINE_AUTH_DATA": AUTH_DATA, "PATH": "/bin:/usr/bin"}
    known = secrets.of_environment(environ)
    assert {"hunter2", "swordfish"} <= known
    assert "/bin:/usr/bin" not in known


def test_a_unit_is_shown_without_foreign_values_of_its_environment() -> None:
    text = (
        "[Service]\nExecStart=/usr/bin/ecs-agent run\n"
        'Environment=ECS_CLUSTER=prod "SALT=a b c" PYTHONUTF8=1 ECS_ENGINE_AUTH_DATA={}\n# Environment="odd\n'
    )
    assert secrets.shown_unit(text).splitlines() == [
        "[Service]",
        "ExecStart=/usr/bin/ecs-agent run",
        "Environment=ECS_CLUSTER=prod SALT=[removed] PYTHONUTF8=1 ECS_ENGINE_AUTH_DATA=[removed]",
        '# Environment="odd',
    ]
    assert secrets.shown_unit("Environment=") == "Environment="


def test_a_container_gives_its_secrets_and_its_long_values() -> None:
    known = secrets.of_container(
        ["DB_PASSWORD=hunter2", "PATH=/usr/local/bin:/usr/bin", "MODE=fast", "BLOB=abcdefghijklm"]
    )
    assert known == {"hunter2", "abcdefghijklm"}


def test_a_proxy_is_shown_only_without_a_password() -> None:
    text = "HTTP_PROXY=proxy:3128\nHTTPS_PROXY=http://u:hunter2@proxy\nAWS_SESSION_TOKEN=hunter3\n"
    shown = secrets.shown_settings(text, name="ecs.config")
    assert "hunter" not in shown
    assert "u:hunter2" not in shown


def test_keys_of_aws_are_known_from_their_files() -> None:
    known = secrets.of_keys_file(
        "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key=hunter2\n"
        "aws_session_token = hunter3==\nregion = eu-west-1\n# x = commented\n"
    )
    assert {"AKIAEXAMPLE", "hunter2", "hunter3==", "commented"} <= known
    assert "eu-west-1" not in known


def test_settings_as_json_are_shown_without_what_may_be_secret() -> None:
    text = json.dumps(
        {"cluster": "prod", "EngineAuthData": json.loads(AUTH_DATA), "Mistyped": "hunter3", "x": 1}
    )
    assert json.loads(secrets.shown_json(text)) == {
        "cluster": "prod",
        "EngineAuthData": "[removed]",
        "Mistyped": "[removed]",
        "x": "[removed]",
    }
    assert {"hunter2", "swordfish", "hunter3"} <= secrets.of_settings_json(text)
    assert "prod" not in secrets.of_settings_json(text)


def test_json_that_is_none_is_not_shown() -> None:
    assert (
        secrets.shown_json('{"Cluster": hunter2') == "[removed: not a JSON object; 19 characters]"
    )
    assert secrets.of_settings_json('{"Cluster": hunter2') == {'{"Cluster": hunter2'}
    assert secrets.shown_json("") == ""
    assert secrets.of_settings_json("[1]") == set()


def test_the_password_of_a_proxy_is_known_by_itself() -> None:
    assert secrets.of_url("me:hunt%65r2@proxy:1") == {"me:hunt%65r2", "hunt%65r2", "hunter2"}
    assert secrets.of_url("http://proxy:1") == set()
    assert "hunter2" in secrets.of_settings_file("HTTPS_PROXY=http://me:hunter2@proxy\n")
    environ = {"https_proxy": "http://me:hunter2@proxy", "NO_PROXY": "a@example.test"}
    assert secrets.of_environment(environ) == {"me:hunter2", "hunter2"}
