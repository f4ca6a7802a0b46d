"""Image names, as `github.com/distribution/reference` reads them, and skopeo's transports before them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from polyarch.errors import InputError

DEFAULT_REGISTRY = "docker.io"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_NAME_LIMIT = 255

Transport = Literal["docker", "oci", "oci-archive", "docker-archive", "containers-storage", "file"]
TRANSPORTS: tuple[Transport, ...] = ("docker", "oci", "oci-archive", "docker-archive", "containers-storage")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in a registry: `docker.io/library/debian:trixie`, with a tag, a digest, or both."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def familiar(self) -> str:
        """The short form that people write: `debian:trixie`."""
        return str(self).removeprefix(f"{DEFAULT_REGISTRY}/library/").removeprefix(f"{DEFAULT_REGISTRY}/")

    def with_digest(self, digest: str) -> Reference:
        """The same repository, pinned to `digest` alone."""
        return replace(self, tag="", digest=digest)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an image is: a transport of containers-transports(5), and a name or a path with an optional tag."""

    transport: Transport
    reference: Reference | None = None
    path: Path | None = None
    tag: str = ""

    def __str__(self) -> str:
        if self.transport == "file":
            return str(self.path)
        rest = f"//{self.reference}" if self.transport == "docker" else str(self.reference or self.path)
        return f"{self.transport}:{rest}{':' + self.tag if self.tag else ''}"


def parse_reference(text: str) -> Reference:
    """Read an image name; `latest` where neither tag nor digest is given, `docker.io/library` where no host is.

    Raises `InputError` that says which part is wrong.
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _bad(text, f"{digest!r} is no digest (sha256: and 64 hexadecimal digits)")
    name, tag = _split_tag(name)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _bad(text, f"{tag!r} is no tag (letters, digits, _ . -, at most 128)")
    if name != name.lower() and "/" not in name:
        raise _bad(text, "repository names are lower case")
    registry, repository = _split_host(name)
    if not re.fullmatch(_HOST, registry) or not re.fullmatch(rf"{_COMPONENT}(?:/{_COMPONENT})*", repository):
        raise _bad(text, "a name is [HOST[:PORT]/]path/of/lower-case-parts[:TAG][@DIGEST]")
    if len(name) > _NAME_LIMIT:
        raise _bad(text, f"the name is longer than {_NAME_LIMIT} characters")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def parse_location(text: str) -> Location:
    """Read `docker://NAME`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `containers-storage:NAME`, a JSON file or NAME.

    Raises `InputError`.
    """
    transport, colon, rest = text.partition(":")
    if transport == "docker" and rest.startswith("//"):
        return Location("docker", parse_reference(rest[2:]))
    if colon and transport == "containers-storage":
        return Location("containers-storage", parse_reference(rest))
    if colon and transport in TRANSPORTS and transport != "docker":
        path, _, tag = rest.partition(":")
        if not path:
            raise _bad(text, f"{transport}: wants a path after the colon")
        return Location(transport, path=Path(path), tag=tag)
    if text.endswith(".json") and Path(text).is_file():
        return Location("file", path=Path(text))
    if text.startswith((".", "/")) and Path(text).is_dir():
        raise InputError(f"{text} is a folder", hint=f"a layout in a folder is written oci:{text}")
    if text.startswith(("./", "../", "/")) and not Path(text).exists():
        raise InputError(f"{text}: there is no such file", hint="oci:DIR, oci-archive:FILE or a name")
    return Location("docker", parse_reference(text))


def _split_tag(name: str) -> tuple[str, str | None]:
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, None)


def _split_host(name: str) -> tuple[str, str]:
    """Docker's rule: the first part is a host when it has a dot, a colon, a capital, or is `localhost`."""
    first, slash, rest = name.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost" or first != first.lower()):
        return first, (f"library/{rest}" if first == DEFAULT_REGISTRY and "/" not in rest else rest)
    return DEFAULT_REGISTRY, name if slash else f"library/{name}"


def _bad(text: str, why: str) -> InputError:
    return InputError(
        f"{text!r} is not an image reference", detail=why, hint="for example registry.example/team/app:1.0"
    )
