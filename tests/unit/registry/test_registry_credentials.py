from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from polyarch.errors import HostError, InputError
from polyarch.registry.credentials import Credentials, Secret, auth_files, find_credentials


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def password(found: Credentials | None) -> str | None:
    return found.secret.reveal() if found else None


def test_files_are_looked_up_in_podmans_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert auth_files() == (
        Path("/run/user/7/containers/auth.json"), home / ".config/containers/auth.json", home / ".docker/config.json",
    )  # fmt: skip
    monkeypatch.setenv("DOCKER_CONFIG", "/elsewhere")
    assert auth_files()[-1] == Path("/elsewhere/config.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/only/this.json")
    assert auth_files() == (Path("/only/this.json"),)


def test_the_first_file_that_knows_the_host_wins(home: Path) -> None:
    write(home / ".config/containers/auth.json", {"auths": {"r.example": auth("podman", "one")}})
    both = {"r.example": auth("docker", "two"), "s.example": auth("docker", "three")}
    write(home / ".docker/config.json", {"auths": both})
    assert password(find_credentials("r.example")) == "one"
    assert password(find_credentials("s.example")) == "three"
    assert find_credentials("t.example") is None


def test_the_most_specific_namespace_wins(home: Path) -> None:
    keys = {"r.example": auth("a", "host"), "r.example/team": auth("a", "team"), "r.example/team/app": auth("a", "app")}
    write(home / ".config/containers/auth.json", {"auths": keys})
    assert password(find_credentials("r.example", "team/app")) == "app"
    assert password(find_credentials("r.example", "team/other")) == "team"
    assert password(find_credentials("r.example", "teamwork")) == "host"


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_is_found_under_all_its_names(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: auth("me", "hub")}})
    assert password(find_credentials("docker.io", "library/debian")) == "hub"


def test_a_password_may_hold_colons(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"https://r.example:5000/v2/": auth("me", "a:b:c")}})
    assert password(find_credentials("r.example:5000")) == "a:b:c"


def test_an_identity_token_is_told_from_a_password(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"r.example": auth("me", "") | {"identitytoken": "refresh"}}})
    found = find_credentials("r.example")
    assert found is not None
    assert (found.secret.reveal(), found.identity) == ("refresh", True)


def test_a_helper_gets_the_host_on_stdin(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """test "$1" = get && server=$(cat) && echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"for $server\\"}" """
    helper(home / "bin", "fake", script, monkeypatch)
    write(home / ".docker/config.json", {"credHelpers": {"r.example": "fake"}, "auths": {"r.example": {}}})
    assert password(find_credentials("r.example")) == "for r.example"
    write(home / ".docker/config.json", {"credsStore": "fake", "auths": {"s.example": {}}})
    assert password(find_credentials("s.example")) == "for s.example"
    assert password(find_credentials("docker.io")) == "for https://index.docker.io/v1/"


def test_a_helper_may_hold_an_identity_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "fake", """echo '{"Username":"<token>","Secret":"refresh"}'""", monkeypatch)
    write(home / ".docker/config.json", {"credsStore": "fake"})
    found = find_credentials("r.example")
    assert found is not None
    assert found.identity


def test_a_helper_without_an_entry_means_no_credentials(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "fake", "echo 'credentials not found in native keychain'; exit 1", monkeypatch)
    write(home / ".docker/config.json", {"credsStore": "fake"})
    assert find_credentials("r.example") is None


def test_a_missing_helper_is_named(home: Path) -> None:
    write(home / ".docker/config.json", {"credsStore": "not-there"})
    with pytest.raises(HostError, match="docker-credential-not-there"):
        find_credentials("r.example")


def test_what_a_confused_helper_says_is_not_repeated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "fake", "echo hunter2", monkeypatch)
    write(home / ".docker/config.json", {"credsStore": "fake"})
    with pytest.raises(HostError) as caught:
        find_credentials("r.example")
    assert "hunter2" not in str(caught.value.as_dict())
    assert caught.value.__cause__ is None


def test_a_broken_file_is_named_and_not_repeated(home: Path) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir()
    path.write_text('{"auths": {"r.example": {"auth": "hunter2"')
    with pytest.raises(InputError, match=r"config\.json") as caught:
        find_credentials("r.example")
    assert "hunter2" not in str(caught.value.as_dict())
    write(path, {"auths": {"r.example": {"auth": "hunter2!"}}})
    with pytest.raises(InputError, match="base64") as caught:
        find_credentials("r.example")
    assert "hunter2" not in str(caught.value.as_dict())


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {Credentials('me', secret)!r}"
    assert "hunter2" not in shown
