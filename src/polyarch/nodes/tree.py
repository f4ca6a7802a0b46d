"""Folders for a node: every file is known by its content, mode and time, so that only what a node lacks is sent.

A tree goes over as one tar stream: first the files that the node lacks, then the tree itself, in which every file is a
hard link to one that the node has by then (POSIX `pax`, type 1). Owners are not carried: COPY gives files to root.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyarch.dockerfile.context import context_files, load_ignore
from polyarch.dockerfile.lower import GeneratedFile
from polyarch.errors import BuildError, InputError
from polyarch.oci.layout import Layout
from polyarch.oci.model import OCI_INDEX, Descriptor

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_EPOCH = 1  # the time of what has none: 0 is taken for "unknown" by some tools


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes, here: on disk (`path`) or in memory; `digest` is hexadecimal SHA-256, `size` in bytes."""

    digest: str
    size: int
    path: Path | None = None
    data: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        """The bytes. Raises `BuildError` when the file is no longer what it was."""
        if self.path is None:
            yield self.data
            return
        found, size = hashlib.sha256(), 0
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    found.update(chunk)
                    size += len(chunk)
                    if size <= self.size:
                        yield chunk
        except OSError as error:
            raise InputError(f"cannot read {self.path}", detail=str(error)) from error
        if found.hexdigest() != self.digest:
            raise BuildError(f"{self.path} was changed while it was sent", hint="build again when nobody writes to it")


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree (slashes, relative): a file with `content`, a link with a `target`, else a folder.

    `mode` are permission bits, `time` is the modification time in whole seconds.
    """

    path: str
    mode: int
    time: int
    content: Content | None = None
    target: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What a file is known by on a node: its digest, and its mode and time as one word."""
        digest = self.content.digest if self.content else ""
        return digest, f"{self.mode:o}-{self.time}"


def of_context(root: Path, ignore_file: Path | None) -> list[Entry]:
    """A build context without what is ignored. Raises `InputError` with the path of what cannot be read."""
    return [_entry(root, path) for path in context_files(root, load_ignore(ignore_file))]


def of_files(files: Sequence[GeneratedFile]) -> list[Entry]:
    """Generated files, and the folders they lie in."""
    folders = {str(parent) for file in files for parent in Path(file.path).parents if str(parent) != "."}
    found = [Entry(folder, 0o755, _EPOCH) for folder in sorted(folders)]
    return found + [_generated(file.path, file.content, file.mode) for file in files]


def of_memory(files: Mapping[str, bytes]) -> list[Entry]:
    """Files of one folder, by name."""
    return [_generated(name, data) for name, data in files.items()]


def of_image(layout: Layout, manifest: Descriptor, blobs: Iterable[Descriptor]) -> list[Entry]:
    """An image layout (OCI image-spec, image-layout.md) that holds one manifest and its blobs."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [manifest.wire()]}
    found = [Entry(folder, 0o755, _EPOCH) for folder in ("blobs", "blobs/sha256")]
    found.append(_generated("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'))
    found.append(_generated("index.json", json.dumps(index).encode()))
    for blob in dict.fromkeys((manifest, *blobs)):
        path = layout.blob_path(blob.digest)
        content = Content(path.name, blob.size, path)
        found.append(Entry(f"blobs/{path.parent.name}/{path.name}", 0o644, _EPOCH, content))
    return found


def contents(entries: Iterable[Entry]) -> dict[tuple[str, str], Content]:
    """The files of trees by what a node knows them by."""
    return {entry.key: entry.content for entry in entries if entry.content is not None}


def stream(
    trees: Sequence[tuple[str, Sequence[Entry]]], missing: Collection[tuple[str, str]], new: str
) -> Iterator[bytes]:
    """The tar of `trees` (folder, entries), with the files that are `missing` in front, below the folder `new`.

    Raises `InputError` or `BuildError` when a file cannot be read or has changed; the stream is not whole then.
    """
    everything = contents(entry for _, entries in trees for entry in entries)
    for digest in sorted({digest for digest, _ in missing}):
        yield _head(f"{new}/{digest}", tarfile.DIRTYPE, 0o700, _EPOCH)
    for digest, key in missing:
        mode, _, time = key.partition("-")
        content = everything[digest, key]
        yield _head(f"{new}/{digest}/{key}", tarfile.REGTYPE, int(mode, 8), int(time), size=content.size)
        yield from content.chunks()
        yield b"\0" * (-content.size % _BLOCK)
    for folder, entries in trees:
        yield _head(folder, tarfile.DIRTYPE, 0o755, _EPOCH)
        for entry in entries:
            yield _entry_head(f"{folder}/{entry.path}", entry, new if entry.key in missing else "files")
    yield b"\0" * (2 * _BLOCK)


def _entry_head(path: str, entry: Entry, store: str) -> bytes:
    if entry.content is not None:
        return _head(path, tarfile.LNKTYPE, entry.mode, entry.time, link="/".join((store, *entry.key)))
    if entry.target:
        return _head(path, tarfile.SYMTYPE, entry.mode, entry.time, link=entry.target)
    return _head(path, tarfile.DIRTYPE, entry.mode, entry.time)


def _head(path: str, kind: bytes, mode: int, time: int, *, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, time, size, link
    # GNU's long names are read by every tar; owner and group stay 0
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _entry(root: Path, name: str) -> Entry:
    path = root / name
    try:
        state = path.lstat()
        mode, time = stat.S_IMODE(state.st_mode), int(state.st_mtime)
        if stat.S_ISLNK(state.st_mode):
            return Entry(name, mode, time, target=os.readlink(path))  # noqa: PTH115 - a Path would be normalised
        if stat.S_ISDIR(state.st_mode):
            return Entry(name, mode, time)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Entry(name, mode, time, Content(digest, file.tell(), path))
    except OSError as error:
        raise InputError(f"cannot read {path}", detail=str(error)) from error


def _generated(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, mode, _EPOCH, Content(hashlib.sha256(data).hexdigest(), len(data), data=data))
