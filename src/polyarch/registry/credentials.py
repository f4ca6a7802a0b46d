"""Credentials from the files that podman and docker write, and from their helpers.

Sources: containers-auth.json(5) for the places, their order and namespaced keys; docker's `config.json` for
`credsStore` and `credHelpers`; github.com/docker/docker-credential-helpers for the protocol of helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyarch import run
from polyarch.errors import HostError, InputError
from polyarch.oci.reference import DEFAULT_REGISTRY

# What docker calls Docker Hub in its file and towards its helpers.
_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_HOSTS = frozenset({"index.docker.io", "registry-1.docker.io"})
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token in docker's protocol
_HELPER_PATIENCE = 60.0  # seconds; a helper may ask the user to unlock a key ring


class Secret:
    """A string that shows itself to nobody but the caller of `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; for a request's header or body, never for a message."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token (an OAuth 2 refresh token) where `identity` is true."""

    user: str
    secret: Secret
    identity: bool = False

    def basic(self) -> str:
        """The value of a basic `Authorization` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret.reveal()}".encode()).decode()


def auth_files() -> tuple[Path, ...]:
    """Where credentials may be, first match wins. `REGISTRY_AUTH_FILE` stands alone when it is set, as in podman."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return (Path(named),)
    home = Path.home()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        *([Path(runtime) / "containers/auth.json"] if runtime else []),
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    )


def find_credentials(host: str, repository: str = "") -> Credentials | None:
    """The credentials for a repository on a host, or None.

    Raises `InputError` when a file cannot be read as what it should be, `HostError` when a helper is missing.
    """
    for path in auth_files():
        config = _load(path)
        if config is not None and (found := _in_file(config, path, host, repository)):
            return found
    return None


def _in_file(config: Mapping[str, Any], path: Path, host: str, repository: str) -> Credentials | None:
    helpers = _by_key(config.get("credHelpers"))
    auths = _by_key(config.get("auths"))
    for key in _keys(host, repository):
        if key in helpers and (found := _ask_helper(str(helpers[key]), key)):
            return found
        if key in auths and (found := _from_entry(auths[key], path, key)):
            return found
    store = config.get("credsStore")
    if not isinstance(store, str) or not store:
        return None
    return _ask_helper(store, _DOCKER_KEY if host == DEFAULT_REGISTRY else host)


def _keys(host: str, repository: str) -> Iterator[str]:
    """`HOST/a/b`, `HOST/a`, `HOST`: the most specific first."""
    parts = [host, *repository.split("/")] if repository else [host]
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])


def _by_key(section: object) -> dict[str, Any]:
    """A section by normalised key: docker writes `https://HOST/v1/`, podman `HOST` or `HOST/name/space`."""
    if not isinstance(section, dict):
        return {}
    return {_normal(str(key)): value for key, value in section.items()}


def _normal(key: str) -> str:
    host, _, rest = key.partition("://")[2].partition("/") if "://" in key else key.partition("/")
    path = "" if "://" in key or rest in {"v1", "v1/", "v2", "v2/"} else rest
    host = DEFAULT_REGISTRY if host in _DOCKER_HOSTS else host
    return f"{host}/{path}".rstrip("/")


def _from_entry(entry: object, path: Path, key: str) -> Credentials | None:
    """Read `{"auth": base64 of user:password}` or `{"identitytoken": …}`; docker leaves `{}` where a helper has it."""
    if not isinstance(entry, dict):
        return None
    user, password = "", ""
    if auth := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            # `from None`: the cause would carry the value along.
            raise InputError(f"{path}: the entry {key!r} is not base64", hint=f"podman login {key}") from None
    if identity := entry.get("identitytoken"):
        return Credentials(user, Secret(str(identity)), identity=True)
    return Credentials(user, Secret(password.rstrip("\0"))) if user else None


def _ask_helper(name: str, server: str) -> Credentials | None:
    """`docker-credential-NAME get`: the server goes in, a JSON object comes out; secrets are in no argument."""
    program = f"docker-credential-{name}"
    if "/" in name or run.which(program) is None:
        raise HostError(
            f"the credential helper {program} is not installed",
            detail="podman's or docker's configuration names it",
            hint="install it, or remove it from credHelpers and credsStore",
        )
    # Helpers live on variables of their own (GNUPGHOME, DBUS_SESSION_BUS_ADDRESS, AWS_PROFILE); the user chose them.
    done = run.capture(
        [program, "get"], stdin=server.encode(), env=dict(os.environ), timeout=_HELPER_PATIENCE, check=False
    )
    if not done.ok:
        return None
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise HostError(f"{program} answered something that is no credential", hint=f"try: {program} get") from None
    return Credentials("" if user == _TOKEN_USER else user, Secret(secret), identity=user == _TOKEN_USER)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:
        raise InputError(f"{path} is not JSON", hint="mend it, or move it away and log in again") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is not a JSON object", hint="mend it, or move it away and log in again")
    return data
