"""A grafted image against an emulated build of the same platform: what an image holds above its base, file by file.

Volatile is what two builds of the same thing differ in: times, logs, and caches (also the times in compiled Python).
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from polyarch.arch import Platform
from polyarch.build.graft import Stored, load
from polyarch.errors import ProofError
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor
from polyarch.verify.scan import clean

_VOLATILE: Final = re.compile(
    r"(tmp|var/tmp|run|var/cache|var/log|root/\.cache|home/[^/]+/\.cache)/.+|.*/__pycache__|etc/(passwd|group|g?shadow)-"
)
_STATED: Final = ("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal", "Labels")
_OPAQUE: Final = ".wh..wh..opq"
_PYC_FLAGS, _PYC_HEAD = 4, 16  # PEP 552: where the flags are, and where the code begins
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One path above the base: `content` is a digest of a file, a link's target, or a device's numbers."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str


def demand_same(layout: Layout, grafted: Descriptor, emulated: Descriptor, base: str, platform: Platform) -> int:
    """Compare both trees above the base (a manifest's digest, "" for scratch); returns how many paths are the same.

    Raises `ProofError` that lists the paths and settings that differ.
    """
    below = load(layout, base)
    images = load(layout, grafted.digest), load(layout, emulated.digest)
    one, other = (dict(tree(layout, image, len(below.diff_ids))) for image in images)
    differing = [f"/{path}: {_difference(one.get(path), other.get(path))}" for path in sorted(_unequal(one, other))]
    differing += list(_settings(*images))
    if differing:
        raise ProofError(
            f"{platform}: the grafted image and the emulated one differ in {len(differing)} places",
            detail="\n".join(differing),
            hint=f"a step depends on the processor it runs on: build with --strategy {platform}=emulate",
        )
    return len(one)


def tree(layout: Layout, image: Stored, skip: int) -> Iterator[tuple[str, Entry]]:
    """Path -> entry of what the layers above the first `skip` make, volatile paths left out; removals are entries."""
    found: dict[str, Entry] = {}
    for layer in image.manifest.layers[skip:]:
        with layout.open(layer.digest) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                _apply(found, archive, member)
    return ((path, entry) for path, entry in found.items() if not _VOLATILE.fullmatch(path))


def _apply(found: dict[str, Entry], archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = clean(member.name) or ""
    folder, _, name = path.rpartition("/")
    if name.startswith(".wh."):
        removed = folder if name == _OPAQUE else f"{folder}/{name[4:]}".lstrip("/")
        for below in [known for known in found if known == removed or known.startswith(f"{removed}/")]:
            del found[below]
        found[removed] = Entry("removed", 0, (0, 0), name if name == _OPAQUE else "")
        return
    content = member.linkname
    if member.isfile():
        content = _digest(path, archive.extractfile(member))
    elif member.isdev():
        content = f"{member.devmajor}:{member.devminor}"
    found[path] = Entry(member.type.decode(), member.mode, (member.uid, member.gid), content)


def _digest(path: str, file: IO[bytes] | None) -> str:
    """Of a file's bytes; of compiled Python without the time of its source."""
    total = hashlib.sha256()
    if file is not None:
        head = file.read(_PYC_HEAD)
        timed = path.endswith(".pyc") and not any(head[_PYC_FLAGS : _PYC_FLAGS + 4])
        total.update(head[:_PYC_FLAGS] if timed else head)
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _unequal(one: dict[str, Entry], other: dict[str, Entry]) -> Iterator[str]:
    return (path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def _difference(grafted: Entry | None, emulated: Entry | None) -> str:
    if grafted is None or emulated is None:
        return "in the emulated image only" if grafted is None else "in the grafted image only"
    names = ("kind", "mode", "owner", "content")
    return f"{', '.join(n for n in names if getattr(grafted, n) != getattr(emulated, n))} differ"


def _settings(grafted: Stored, emulated: Stored) -> Iterator[str]:
    for name in _STATED:
        one, other = _stated(grafted.run.get(name)), _stated(emulated.run.get(name))
        if one != other:
            yield f"config: {name}: {one!r}, emulated {other!r}"


def _stated(value: Any) -> object:  # noqa: ANN401  # any JSON
    return sorted(value) if isinstance(value, list) and all("=" in str(entry) for entry in value) else value or None
