"""An OCI image layout on disk (image-spec `image-layout.md`): blobs by digest, names in `index.json`.

Blobs appear whole or not at all (written beside, checked, renamed). Names change atomically under a lock, so a reader
sees the old index or the new one, and two commands at once lose nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.oci.model import (
    DOCUMENT_LIMIT,
    OCI_INDEX,
    REF_NAME,
    Descriptor,
    Document,
    Index,
    Manifest,
    parse_config,
    parse_document,
)
from polyarch.oci.source import Source

_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")  # what a path may be made of


class Layout:
    """One layout folder; made on first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def blobs(self) -> Path:
        """The folder that holds `sha256/<hex>`; skopeo shares it by `--src-shared-blob-dir`."""
        return self.path / "blobs"

    def blob_path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest[:160]!r} is no digest")
        algorithm, _, value = digest.partition(":")
        return self.blobs / algorithm / value

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.blob_path(digest).is_file()

    def holds(self, blob: Descriptor) -> bool:
        """Whether the blob is here in its full size; a damaged copy is as good as none."""
        path = self.blob_path(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file. Raises `InputError` when it is not here."""
        try:
            return self.blob_path(digest).open("rb")
        except FileNotFoundError as error:
            raise InputError(f"{self.path}: blob {digest} is missing") from error

    @contextlib.contextmanager
    def chunks(self, digest: str) -> Iterator[Iterator[bytes]]:
        """The blob in chunks of 1 MiB. Raises `InputError` when it is not here."""
        with self.open(digest) as file:
            yield iter(lambda: file.read(_CHUNK), b"")

    def read(self, digest: str, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole. Raises `InputError` when it is missing or larger than `limit` bytes."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"{self.path}: blob {digest} is larger than {limit} bytes")
        return data

    def write(self, digest: str | None, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Add a blob from chunks; returns its digest and size.

        Raises `InputError` when the bytes do not have the digest that was promised; nothing is kept then.
        """
        with self.incoming() as (path, file):
            hasher = hashlib.new(digest.partition(":")[0] if digest else "sha256")
            size = 0
            for chunk in chunks:
                hasher.update(chunk)
                size += file.write(chunk)
            found = f"{hasher.name}:{hasher.hexdigest()}"
            if digest is not None and found != digest:
                raise InputError(f"{self.path}: a blob promised as {digest} has digest {found}")
            file.flush()
            self.adopt(path, found)
        return found, size

    def add(self, data: bytes) -> str:
        """Add a blob from memory; returns its digest."""
        return self.write(None, [data])[0]

    @contextlib.contextmanager
    def incoming(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A file on the same file system, for a blob whose digest is known only at its end; gone unless adopted."""
        with self.staging() as folder:
            path = folder / secrets.token_hex(8)
            try:
                with path.open("w+b") as file:
                    yield path, file
            finally:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """The folder for what is not a blob yet, kept from `clear_staging` of others while it is held."""
        folder = self.path / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        with (self.path / "incoming.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield folder

    @contextlib.contextmanager
    def workroom(self) -> Iterator[Path]:
        """A new folder on the layout's file system, so that blobs move by rename and link; gone afterwards."""
        with self.staging() as folder:
            room = folder.absolute() / secrets.token_hex(8)
            room.mkdir()
            try:
                yield room
            finally:
                shutil.rmtree(room, ignore_errors=True)

    def clear_staging(self) -> None:
        """Remove what killed commands left half-made, unless somebody is making something; downloads may go on."""
        if not (self.path / "incoming").exists():
            return
        with (self.path / "incoming.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for entry in (self.path / "incoming").iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.suffix != ".part":
                    entry.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Leave only what the specification names: locks and folders of work go, unless somebody works here."""
        self.clear_staging()
        with contextlib.suppress(OSError):  # a download goes on
            (self.path / "incoming").rmdir()
            (self.path / "incoming.lock").unlink()
            (self.path / "lock").unlink()

    def adopt(self, path: Path, digest: str) -> None:
        """Move a finished file in as the blob that it is; the caller has checked the digest."""
        target = self.blob_path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o644)
        path.rename(target)

    def names(self) -> dict[str, Descriptor]:
        """Every name and what it points to."""
        return {(entry.annotations or {}).get(REF_NAME, ""): entry for entry in self._index().manifests}

    def find(self, name: str) -> Document | None:
        """The document under a name ("" is the only one there is), or None."""
        names = self.names()
        if not name and len(names) == 1:
            name = next(iter(names))
        entry = names.get(name)
        return self.document(entry) if entry is not None else None

    def document(self, descriptor: Descriptor) -> Document:
        """The manifest or index that a descriptor points to."""
        return parse_document(self.read(descriptor.digest), descriptor.media_type, f"{self.path}@{descriptor.digest}")

    def store(self, document: Document) -> Descriptor:
        """Add a manifest or an index; returns its descriptor."""
        self.write(document.digest, [document.raw])
        return document.descriptor

    def tag(self, document: Document, names: Iterable[str]) -> None:
        """Point names at a document; every blob that it needs must be here already.

        Raises `InputError` naming the missing blob; the old names then stand.
        """
        self.store(document)
        self._complete(document)
        self.rename(dict.fromkeys(names, document.descriptor))

    def rename(self, changes: Mapping[str, Descriptor | None]) -> None:
        """Set names (None removes one), all at once."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self.names()
            for name, descriptor in changes.items():
                entries.pop(name, None)
                if descriptor is not None:
                    entries[name] = descriptor.model_copy(update={"annotations": {REF_NAME: name} if name else None})
            self._write_json("oci-layout", {"imageLayoutVersion": "1.0.0"})
            manifests = [entry.wire() for entry in entries.values()]
            self._write_json("index.json", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})

    def whole(self, digest: str) -> bool:
        """Whether a manifest or an index is here with every blob that it needs."""
        try:
            self._complete(parse_document(self.read(digest), "", digest))
        except InputError:
            return False
        return True

    def _complete(self, document: Document) -> None:
        if isinstance(document.value, Index):
            for entry in document.value.manifests:
                if not self.has(entry.digest):
                    raise InputError(f"{self.path}: manifest {entry.digest} is missing")
                self._complete(self.document(entry))
            return
        for blob in (document.value.config, *document.value.layers):
            if not self.holds(blob) and not blob.elsewhere:
                raise InputError(f"{self.path}: blob {blob.digest} is missing or damaged")

    def _index(self) -> Index:
        path = self.path / "index.json"
        if not path.exists():
            return Index(schema_version=2, media_type=OCI_INDEX, manifests=())
        found = parse_document(path.read_bytes(), OCI_INDEX, str(path)).value
        if isinstance(found, Manifest):
            raise InputError(f"{path}: an index is wanted here, and this is a manifest")
        return found

    def _write_json(self, name: str, value: object) -> None:
        beside = self.path / f".{name}.{secrets.token_hex(4)}"
        with beside.open("w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self.path / name)


class LayoutSource:
    """An image in a layout, as a `Source`."""

    def __init__(self, layout: Layout, document: Document, name: str) -> None:
        self._layout = layout
        self._document = document
        self.name = name

    def top(self) -> Document:
        """The document that the name points to."""
        return self._document

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or index of the image."""
        return self._layout.document(descriptor)

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole."""
        return self._layout.read(descriptor.digest, limit)

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """A blob in chunks of 1 MiB."""
        with self._layout.chunks(descriptor.digest) as chunks:
            yield chunks


def platforms_of(layout: Layout, document: Document) -> dict[Platform, Descriptor]:
    """The images of an index by platform; a plain manifest is one image, its platform read from its config."""
    if isinstance(document.value, Index):
        return {e.platform.platform: e for e in document.value.images() if e.platform is not None}
    config = parse_config(layout.read(document.value.config.digest), str(layout.path))
    return {config.platform: document.descriptor}


def adopt(layout: Layout, source: Source, document: Document) -> None:
    """Copy one platform's image into a layout, every digest checked on the way. Raises `InputError`."""
    if isinstance(document.value, Index):
        raise InputError(f"{source.name}: an index, where one platform's image is wanted")
    for blob in (document.value.config, *document.value.layers):
        if not layout.holds(blob):
            with source.open(blob) as chunks:
                layout.write(blob.digest, chunks)
    layout.store(document)
