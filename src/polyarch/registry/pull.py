"""An image out of a registry: manifests, configs and layers into a store, every digest checked on the way in."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from polyarch.arch import Platform
from polyarch.errors import InputError, RegistryError
from polyarch.oci.model import DOCUMENT_LIMIT, Descriptor, Document, Index, parse_config, parse_document
from polyarch.oci.reference import Reference
from polyarch.registry import retry
from polyarch.registry.client import Registry
from polyarch.registry.http import TransientError

_AT_ONCE = 6
_READ = 1 << 20  # bytes
_POLL = 0.2  # seconds between looks at a blob that another process is fetching
_ATTESTED = "vnd.docker.reference.digest"


class BlobStore(Protocol):
    """Where blobs go; `polyarch.oci.layout.Layout` is one."""

    @property
    def path(self) -> Path:
        """The store's folder; unfinished blobs are kept in `incoming/` of it."""

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file. Raises `InputError` when it is not there."""

    def adopt(self, path: Path, digest: str) -> None:
        """Move a finished and checked file in."""

    def store(self, document: Document) -> Descriptor:
        """Add a manifest or an index."""


async def pull(
    client: Registry, store: BlobStore, ref: Reference, platforms: Collection[Platform] | None = None
) -> Document:
    """Fetch what the reference points to, and all that it needs, into the store; returns the document.

    With `platforms`, an index is returned whole while only those images (and their attestations) are fetched.
    Blobs that the store has are not fetched again; one that was begun is taken up where it broke off. Raises
    `InputError` when there is no such image or it lacks a platform; `RegistryError` when the registry fails.
    """
    top = await _document(client, store, ref)
    if isinstance(top.value, Index):
        chosen = _choose(top.value, platforms, ref)
        await retry.in_parallel((_image(client, store, ref, entry) for entry in chosen), _AT_ONCE)
    else:
        await _blobs(client, store, ref, top)
        _check_plain(store, top, platforms, ref)
    store.store(top)
    return top


async def _document(client: Registry, store: BlobStore, ref: Reference) -> Document:
    """A manifest, out of the store where it is already: registries count GETs, and ask nothing for a HEAD."""
    head = await client.head_manifest(ref)
    if head.digest and store.has(head.digest):
        return _stored(store, head.digest, head.media_type)
    return await client.get_manifest(ref)


async def _image(client: Registry, store: BlobStore, ref: Reference, entry: Descriptor) -> None:
    """One entry of an index: what it needs first, itself last, so that what is stored is whole."""
    if store.has(entry.digest):
        found = _stored(store, entry.digest, entry.media_type)
    else:
        found = await client.get_manifest(ref.with_digest(entry.digest))
    if isinstance(found.value, Index):
        await retry.in_parallel((_image(client, store, ref, inner) for inner in found.value.manifests), _AT_ONCE)
    else:
        await _blobs(client, store, ref, found)
    store.store(found)


async def _blobs(client: Registry, store: BlobStore, ref: Reference, image: Document) -> None:
    if isinstance(image.value, Index):
        return
    wanted = {blob.digest: blob for blob in (image.value.config, *image.value.layers) if not store.has(blob.digest)}
    await retry.in_parallel((_blob(client, store, ref, blob) for blob in wanted.values()), _AT_ONCE)


async def _blob(client: Registry, store: BlobStore, ref: Reference, blob: Descriptor) -> None:
    """One blob, into `incoming/<hex>.part`, which outlives a failure; platforms that share it wait for one download."""
    part = store.path / "incoming" / f"{blob.digest.partition(':')[2]}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    while not store.has(blob.digest):
        with part.open("a+b") as file:
            if not _owned(file, part):
                await asyncio.sleep(_POLL)
                continue
            try:
                await _fill(client, ref, blob, file)
            except TransientError:
                raise
            except RegistryError:
                part.unlink()  # wrong bytes are nothing to go on from
                raise
            file.flush()
            store.adopt(part, blob.digest)


async def _fill(client: Registry, ref: Reference, blob: Descriptor, file: BinaryIO) -> None:
    """Append what the file lacks of the blob. Raises `RegistryError` when the whole has another digest."""
    if file.seek(0, os.SEEK_END) > blob.size:
        file.truncate(0)
    hasher = hashlib.new(blob.digest.partition(":")[0])
    file.seek(0)
    for chunk in iter(lambda: file.read(_READ), b""):
        hasher.update(chunk)
    async for chunk in client.get_blob(ref.repository, blob, file.tell(), hasher):
        file.write(chunk)


def _owned(file: BinaryIO, path: Path) -> bool:
    """Lock the file; False while another download has it, or when that one has moved it away meanwhile."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _stored(store: BlobStore, digest: str, media_type: str) -> Document:
    with store.open(digest) as file:
        return parse_document(file.read(DOCUMENT_LIMIT + 1), media_type, digest)


def _choose(index: Index, platforms: Collection[Platform] | None, ref: Reference) -> tuple[Descriptor, ...]:
    """The entries for the platforms, and the attestations of those entries."""
    if platforms is None:
        return index.manifests
    offered = {entry.platform.platform: entry for entry in reversed(index.images()) if entry.platform is not None}
    if missing := [str(platform) for platform in platforms if platform not in offered]:
        raise _lacks(ref, missing, map(str, offered))
    chosen = [offered[platform] for platform in platforms]
    digests = {entry.digest for entry in chosen}
    attested = [e for e in index.manifests if e.is_attestation and (e.annotations or {}).get(_ATTESTED) in digests]
    return (*chosen, *attested)


def _check_plain(store: BlobStore, image: Document, platforms: Collection[Platform] | None, ref: Reference) -> None:
    """A plain manifest is one platform's image, whatever was asked for: refuse it where it is another's."""
    if platforms is None or isinstance(image.value, Index):
        return
    with store.open(image.value.config.digest) as file:
        actual = parse_config(file.read(DOCUMENT_LIMIT + 1), f"the config of {ref}").platform
    if missing := [str(platform) for platform in platforms if platform != actual]:
        raise _lacks(ref, missing, [str(actual)])


def _lacks(ref: Reference, missing: Collection[str], offered: Iterator[str] | Collection[str]) -> InputError:
    return InputError(f"{ref} has no image for {', '.join(missing)}", detail=f"it has {', '.join(sorted(offered))}")
