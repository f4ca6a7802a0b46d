"""Nodes as plain frozen values: what the user said of a machine, and what the machine said of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from polyarch.arch import Platform
from polyarch.errors import InputError

DEFAULT_FOLDER = "~/.cache/polyarch-node"
DEFAULT_SLOTS = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_KUBERNETES = "kubernetes://"
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # a DNS label, RFC 1123
_WANTED = "ssh://[USER@]HOST[:PORT][/FOLDER], HOST as in ~/.ssh/config; or kubernetes://CONTEXT/NAMESPACE"
POD_FOLDER = "/var/lib/polyarch"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node is. What is empty or 0 is left to the OpenSSH client's configuration; `folder` to polyarch.

    With the scheme `kubernetes`, `host` is a context of the user's kubeconfig, and `namespace` is one of its cluster's.
    """

    host: str
    user: str = ""
    port: int = 0
    folder: str = ""
    scheme: str = "ssh"
    namespace: str = ""

    def __str__(self) -> str:
        if self.scheme == "kubernetes":
            return f"kubernetes://{self.host}/{self.namespace}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{host}{port}{self.folder}"

    @property
    def login(self) -> str:
        """The node as ssh(1) is told it: `-p 2222 user@host`."""
        port = f"-p {self.port} " if self.port else ""
        return f"{port}{self.user}@{self.host}" if self.user else f"{port}{self.host}"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that may build: `slots` platforms at once. Without `platforms` it builds for its own processor.

    A cluster builds in pods of `image` (with buildah, a shell and tar), for the processors that its machines have.
    """

    name: str
    address: Address
    platforms: tuple[Platform, ...] = ()
    slots: int = DEFAULT_SLOTS
    image: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As the inventory and `--json` have it."""
        platforms = [str(platform) for platform in self.platforms]
        plain = {"name": self.name, "address": str(self.address), "platforms": platforms, "slots": self.slots}
        return plain | ({"image": self.image} if self.image else {})


@dataclass(frozen=True, slots=True)
class Fault:
    """What keeps a node from building, and the command that mends it (on the node, unless it says otherwise)."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a node said of itself.

    `engine` is buildah or podman, `isolation` the one that worked there (both "" for none); `executes` are the
    platforms whose smallest program ran; `machine` is that of uname(1); `free` is in bytes; `busy` counts the builds
    that run there now, whoever started them.
    """

    machine: str
    own: Platform | None
    engine: str
    versions: tuple[tuple[str, str], ...]
    isolation: str
    executes: tuple[Platform, ...]
    free: int
    busy: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking a node: its abilities, or why it gave none (and what to do)."""

    node: Node
    abilities: Abilities | None
    why: str = ""
    hint: str = ""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What builds may be sent there for."""
        if self.abilities is None or self.abilities.faults:
            return ()
        own = (self.abilities.own,) if self.abilities.own else self.abilities.executes
        return tuple(p for p in self.node.platforms or own if p in self.abilities.executes)

    @property
    def problem(self) -> str:
        """Why nothing is sent there; "" when something is."""
        if self.abilities is None:
            return self.why
        return self.abilities.faults[0].what if self.abilities.faults else ""


def parse_name(text: str) -> str:
    """The name of a node. Raises `InputError` for what is none."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{text!r} is no name for a node", hint="use letters, digits, `.`, `_` and `-`")
    return text


def parse_address(text: str) -> Address:
    """Read `ssh://[user@]host[:port][/folder]` or `kubernetes://context/namespace`. Raises `InputError`."""
    if text.startswith(_KUBERNETES):
        return _parse_cluster(text)
    try:
        parts = urlsplit(text)
        port = parts.port or 0
    except ValueError as error:
        raise InputError(f"{text!r} is no address of a node: {error}", hint=_WANTED) from error
    host, user, folder = parts.hostname or "", unquote(parts.username or ""), unquote(parts.path)
    if parts.scheme != "ssh" or not host or parts.query or parts.fragment:
        raise InputError(f"{text!r} is no address of a node", hint=_WANTED)
    if parts.password is not None:
        raise InputError(
            f"the address of {host} has a password in it", hint="log in with a key: ssh-copy-id, ssh-agent"
        )
    if any(part.startswith("-") or not part.isprintable() or " " in part for part in (host, user)):
        raise InputError(f"{text!r} is no address of a node", hint=_WANTED)
    if folder.strip("/") and any(c in folder for c in ":\0\n"):
        raise InputError(f"{folder!r} is no folder for a node's files", hint="leave out colons and line ends")
    # urlsplit lower-cases the host, and ~/.ssh/config minds case
    spelled = re.search(re.escape(host), parts.netloc.rpartition("@")[2], re.IGNORECASE)
    return Address(spelled[0] if spelled else host, user, port, folder.rstrip("/"))


def _parse_cluster(text: str) -> Address:
    """Contexts are named freely (`user@cluster`, `arn:…/name`), so the namespace is what follows the last slash."""
    context, _, namespace = text.removeprefix(_KUBERNETES).rpartition("/")
    if not context or not context.isprintable() or not _NAMESPACE.fullmatch(namespace):
        raise InputError(f"{text!r} is no address of a node", hint=_WANTED)
    return Address(context, folder=POD_FOLDER, scheme="kubernetes", namespace=namespace)
