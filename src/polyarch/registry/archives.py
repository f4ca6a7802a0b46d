"""Images in tar archives, read in place: `oci-archive:` (an OCI layout in a tar) and `docker-archive:` (`docker save`).

A compressed archive is unpacked once into a plain tar in a temporary file; members are then read by their offsets, so
no name in an archive ever becomes a name on disk. Sources: containers-transports(5), image-spec `image-layout.md`,
docker's `image/spec/v1.2.md` ("Combined Image JSON + Filesystem Changeset Format").
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polyarch.errors import InputError
from polyarch.oci.model import (
    DOCUMENT_LIMIT,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    REF_NAME,
    Descriptor,
    Document,
    Index,
    Manifest,
    digest_of,
    document,
    load_json,
    parse_config,
    parse_document,
)

_CHUNK = 1 << 20  # bytes
_MEMBERS = 1 << 20
_LINKS = 8
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile,
}  # fmt: skip


class TarFile:
    """The regular files of an uncompressed tar, by normalised name; safe to read from several threads."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for count, member in enumerate(tar):
                    self._note(member, count)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            raise InputError(f"{name}: not a tar archive", detail=str(error)) from error

    def has(self, member: str) -> bool:
        """Whether the archive has a file of this name."""
        return self._resolve(member) in self._members

    def size(self, member: str) -> int:
        """The size of a member in bytes. Raises `InputError` when there is none of this name."""
        return self._find(member)[1]

    def read(self, member: str, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small member whole. Raises `InputError` when it is missing or larger than `limit` bytes."""
        if self.size(member) > limit:
            raise InputError(f"{self.name}: {member} is larger than {limit} bytes")
        return b"".join(self.chunks(member))

    def chunks(self, member: str) -> Iterator[bytes]:
        """A member's bytes, in chunks of 1 MiB. Raises `InputError` when it is missing or the archive is cut off."""
        offset, left = self._find(member)
        with self._path.open("rb") as file:
            file.seek(offset)
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise InputError(f"{self.name}: the archive ends inside {member}")
                left -= len(chunk)
                yield chunk

    def _note(self, member: tarfile.TarInfo, count: int) -> None:
        if count >= _MEMBERS:
            raise InputError(f"{self.name}: more than {_MEMBERS} members")
        name = _normal(member.name)
        if member.isreg():
            self._members[name] = (member.offset_data, member.size)
        elif member.issym():  # older docker and podman link equal layers
            self._links[name] = _normal(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            self._links[name] = _normal(member.linkname)

    def _resolve(self, member: str) -> str:
        name = _normal(member)
        for _ in range(_LINKS):
            if name in self._members:
                break
            name = self._links.get(name, name)
        return name

    def _find(self, member: str) -> tuple[int, int]:
        try:
            return self._members[self._resolve(member)]
        except KeyError as error:
            raise InputError(f"{self.name}: {member} is missing from the archive") from error


class ArchiveSource:
    """An image in a tar, as a `Source`; `members` tells in which member a blob is, where that is not `blobs/…`."""

    def __init__(self, tar: TarFile, top: Document, members: dict[str, str] | None = None) -> None:
        self.name = tar.name
        self._tar = tar
        self._top = top
        self._members = members or {}

    def top(self) -> Document:
        """The document that the archive's name points to."""
        return self._top

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or index of the image."""
        return parse_document(self.fetch(descriptor), descriptor.media_type, f"{self.name}@{descriptor.digest}")

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole."""
        return self._tar.read(self._member(descriptor), limit)

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """A blob in chunks of 1 MiB."""
        member = self._member(descriptor)
        self._tar.size(member)  # a missing blob is told at once
        yield self._tar.chunks(member)

    def _member(self, descriptor: Descriptor) -> str:
        return self._members.get(descriptor.digest) or _blob(descriptor)


@contextlib.contextmanager
def open_tar(path: Path, name: str) -> Iterator[TarFile]:
    """The archive at `path`, unpacked into a temporary file first if it is compressed (gzip, bzip2, xz).

    Raises `InputError` when it is no such archive.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None:
        yield TarFile(path, name)
        return
    with tempfile.TemporaryDirectory(prefix="polyarch-") as folder:
        plain = Path(folder) / "archive.tar"
        try:
            with opener(path) as packed, plain.open("wb") as out:
                shutil.copyfileobj(packed, out, _CHUNK)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise InputError(f"{name}: the archive cannot be unpacked", detail=str(error)) from error
        yield TarFile(plain, name)


def oci_archive(tar: TarFile, tag: str) -> ArchiveSource:
    """The image under `tag` of a layout in a tar; "" is the only one there is. Raises `InputError`."""
    index = parse_document(tar.read("index.json"), OCI_INDEX, f"{tar.name}: index.json").value
    entries = index.manifests if isinstance(index, Index) else ()
    only = not tag and len(entries) == 1
    chosen = [entry for entry in entries if only or _name(entry) == tag]
    if len(chosen) != 1:
        raise _no_such_image(tar.name, tag, [_name(entry) for entry in entries])
    raw = tar.read(_blob(chosen[0]))
    return ArchiveSource(tar, parse_document(raw, chosen[0].media_type, f"{tar.name}@{chosen[0].digest}"))


def docker_archive(tar: TarFile, tag: str) -> ArchiveSource:
    """An image of `docker save`, as the OCI manifest that it amounts to. Raises `InputError`.

    `tag` is one of the archive's `RepoTags`; "" is the only image there is.
    """
    wrapped = b'{"images":' + tar.read("manifest.json") + b"}"
    images = load_json(wrapped, f"{tar.name}: manifest.json").get("images")
    images = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    chosen = [image for image in images if tag in (image.get("RepoTags") or ()) or (not tag and len(images) == 1)]
    if len(chosen) != 1:
        raise _no_such_image(tar.name, tag, [str(name) for image in images for name in image.get("RepoTags") or ()])
    config, layers = _parts(chosen[0], tar.name)
    raw = tar.read(config)
    members = {digest_of(raw): config}
    described = []
    diff_ids = parse_config(raw, f"{tar.name}: {config}").rootfs.diff_ids
    for number, layer in enumerate(layers):
        blob = _layer(tar, layer, diff_ids[number] if number < len(diff_ids) else "")
        members[blob.digest] = layer
        described.append(blob)
    top = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(raw), size=len(raw)),
        layers=tuple(described),
    )
    return ArchiveSource(tar, document(top), members)


def _parts(image: dict[str, Any], where: str) -> tuple[str, list[str]]:
    config, layers = image.get("Config"), image.get("Layers")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise InputError(f"{where}: manifest.json names no config and layers")
    return config, layers


def _layer(tar: TarFile, member: str, diff_id: str) -> Descriptor:
    """A layer's descriptor. A plain tar's digest *is* its diff id, so the claim is kept for the proof to check."""
    start = next(tar.chunks(member), b"")[:4]
    kinds = {b"\x1f\x8b": OCI_LAYER_GZIP, b"\x28\xb5\x2f\xfd": OCI_LAYER_ZSTD}
    kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), OCI_LAYER)
    digest = diff_id
    if kind != OCI_LAYER or not diff_id:
        hasher = hashlib.sha256()
        for chunk in tar.chunks(member):
            hasher.update(chunk)
        digest = f"sha256:{hasher.hexdigest()}"
    return Descriptor(media_type=kind, digest=digest, size=tar.size(member))


def _blob(descriptor: Descriptor) -> str:
    """Where a layout keeps a blob."""
    return f"blobs/{descriptor.digest.replace(':', '/', 1)}"


def _name(entry: Descriptor) -> str:
    return (entry.annotations or {}).get(REF_NAME, "")


def _no_such_image(where: str, tag: str, names: list[str]) -> InputError:
    listed = ", ".join(name or "(one without a name)" for name in names) or "none"
    what = f"no image {tag!r}" if tag else "not exactly one image"
    return InputError(f"{where}: {what} in there", detail=f"it has: {listed}", hint="name one, after a colon")


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")
