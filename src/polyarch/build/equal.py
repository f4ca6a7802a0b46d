"""Whether an accelerated build made what a plain one makes: both trees compared, entry by entry.

Compared is what each layer that the two images do not share says of every path: content, kind, mode, owner, target of
a link, extended attributes (file capabilities are one). Not compared: times, and the files of `VOLATILE`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from polyarch.arch import Platform
from polyarch.build.execute import Outcome, execute
from polyarch.build.model import Request
from polyarch.build.prepare import prepare, refuse
from polyarch.build.work import work
from polyarch.emulation.twins import catalogue
from polyarch.emulation.twins.tree import decompressed
from polyarch.errors import BuildError, ProofError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.oci.model import Manifest, parse_document
from polyarch.report import Event, Sink

# Files that two plain builds of one Dockerfile do not make alike either: pattern, and why.
VOLATILE = (
    ("var/cache/apt/*.bin", "addresses and times in apt's own cache"),
    ("var/cache/ldconfig/aux-cache", "inode numbers and times"),
    ("var/log/*", "times"),
    ("var/cache/debconf/*-old", "the state before the last of several writes within one second"),
    ("var/lib/apt/extended_states", "order of a hash table"),
    ("etc/ssh/ssh_host_*", "random keys"),
    ("etc/machine-id", "random"),
    ("var/lib/dbus/machine-id", "random"),
    ("etc/ssl/private/*", "random keys"),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", "random keys"),
)
_CHUNK = 1 << 20
_MOST_TOLD = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """What a layer says of one path; `content` is the SHA-256 of a file."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    link: str
    content: str
    attributes: tuple[tuple[str, str], ...]


async def prove_acceleration(request: Request, accelerated: Outcome, facts: Facts, layout: Layout, show: Sink) -> None:
    """Build plainly what was accelerated, and compare.

    Raises `ProofError` that names the paths that differ, `BuildError` when the plain build fails.
    """
    foreign = tuple(
        image.platform
        for image in accelerated.images
        if facts.execution(image.platform).way == "namespace" and image.platform.architecture in catalogue.ACCELERATED
    )
    if not foreign:
        show(Event("note", "proof", "nothing was accelerated, so there is nothing to compare"))
        return
    plainly = replace(request, platforms=foreign, accelerate=False, prove_acceleration=False, no_cache=True)
    prepared = await prepare(plainly, facts, layout)
    refuse(prepared)
    show(Event("start", "proof", "building once more without acceleration"))
    plain = await execute(prepared, work(prepared), facts, layout, show)
    for error in plain.failures.values():
        raise BuildError(f"without acceleration: {error.message}", detail=error.detail, hint=error.hint)
    made = {image.platform: image.descriptor.digest for image in accelerated.images}
    for image in plain.images:
        count = _compare(layout, image.platform, made[image.platform], image.descriptor.digest)
        show(Event("done", "proof", f"{image.platform}: {count} entries are as a plain build makes them"))


def _compare(layout: Layout, platform: Platform, accelerated: str, plain: str) -> int:
    differing, count = compare(layout, accelerated, plain)
    if differing:
        rest = [f"… and {len(differing) - _MOST_TOLD} more"] if len(differing) > _MOST_TOLD else []
        raise ProofError(
            f"{platform}: the accelerated build made {len(differing)} of {count} entries differently",
            detail="\n".join([*differing[:_MOST_TOLD], *rest]),
            hint="build with --no-accelerate, and report which tool wrote these",
        )
    return count


def compare(layout: Layout, first: str, second: str) -> tuple[list[str], int]:
    """The paths that differ between two images (digests of manifests), and how many entries were compared."""
    one, two = _layers(layout, first), _layers(layout, second)
    shared = next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    left, right = _entries(layout, one[shared:]), _entries(layout, two[shared:])
    paths = sorted(path for path in left.keys() | right.keys() if not volatile(path))
    return [_told(path, left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)], len(
        paths
    )


def volatile(path: str) -> bool:
    """Whether a file is one that no two builds make alike."""
    return any(fnmatch.fnmatch(path, pattern) for pattern, _ in VOLATILE)


def _told(path: str, left: Entry | None, right: Entry | None) -> str:
    if left is None or right is None:
        return f"/{path}: only the {'plain' if left is None else 'accelerated'} build made it"
    names = [name for name in Entry.__slots__ if getattr(left, name) != getattr(right, name)]
    return f"/{path}: {', '.join(names)}"


def _layers(layout: Layout, digest: str) -> list[str]:
    manifest = parse_document(layout.read(digest), "", digest).value
    return [layer.digest for layer in manifest.layers] if isinstance(manifest, Manifest) else []


def _entries(layout: Layout, digests: list[str]) -> Mapping[str, Entry]:
    """The last word of these layers on each path; a whiteout is an entry like any other."""
    found: dict[str, Entry] = {}
    for digest in digests:
        with (
            layout.open(digest) as layer,
            decompressed(layer) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                found[str(PurePosixPath("/", member.name))[1:]] = _entry(tar, member)
    return found


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    hasher = hashlib.sha256()
    source = tar.extractfile(member) if member.isreg() else None
    while source is not None and (chunk := source.read(_CHUNK)):
        hasher.update(chunk)
    attributes = tuple(sorted((k, v) for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")))
    content = hasher.hexdigest() if member.isreg() else f"{member.devmajor}:{member.devminor}"
    return Entry(member.type, member.mode, member.uid, member.gid, member.linkname, content, attributes)
