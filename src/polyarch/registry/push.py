"""An image into a registry: blobs first, manifests by digest, the tag last.

Whatever goes wrong on the way, the tag points to a whole image: the old one until the new one is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from polyarch.errors import RegistryError
from polyarch.oci.model import Descriptor, Document, Index, parse_document
from polyarch.oci.reference import Reference
from polyarch.registry import retry
from polyarch.registry.client import Registry
from polyarch.report import Event, Sink

_AT_ONCE = 6


class BlobSource(Protocol):
    """Where blobs come from; `polyarch.oci.layout.Layout` is one."""

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file that can seek. Raises `InputError` when it is not there."""


async def push(
    client: Registry, store: BlobSource, document: Document, ref: Reference, progress: Sink, mount_from: str = ""
) -> None:
    """Store the document, and all that it needs, under the reference.

    Blobs that the registry has are not sent again, so a push that failed goes on where it was when it is run again.
    `mount_from` names a repository of the same registry that may share blobs (the base image's). Raises `InputError`
    when something is missing from the store, `RegistryError` when the registry fails.
    """
    nested = tuple(_inner(store, document))
    blobs = {blob.digest: blob for doc in (*nested, document) for blob in _blobs(store, doc)}
    name = str(ref)
    done = 0

    async def one(blob: Descriptor) -> None:
        nonlocal done
        how = await client.put_blob(ref.repository, blob.digest, blob.size, lambda: store.open(blob.digest), mount_from)
        done += 1
        progress(Event("step", name, f"{how} {_short(blob.digest)} ({blob.size} bytes)", done, len(blobs)))

    progress(Event("start", name, f"push {len(blobs)} blobs and {len(nested) + 1} manifests"))
    await retry.in_parallel((one(blob) for blob in blobs.values()), _AT_ONCE)
    for inner in nested:  # deepest first: a registry refuses an index whose manifests it lacks
        await client.put_manifest(ref.with_digest(inner.digest), inner)
    await client.put_manifest(ref, document)
    found = await client.head_manifest(ref)
    if found.digest != document.digest:
        raise RegistryError(f"{ref} points to {found.digest} after {document.digest} was pushed")
    progress(Event("done", name, document.digest))


def _inner(store: BlobSource, document: Document) -> Iterator[Document]:
    """The documents below an index, children before parents."""
    if not isinstance(document.value, Index):
        return
    for entry in document.value.manifests:
        with store.open(entry.digest) as file:
            inner = parse_document(file.read(entry.size + 1), entry.media_type, entry.digest)
        yield from _inner(store, inner)
        yield inner


def _blobs(store: BlobSource, document: Document) -> Iterator[Descriptor]:
    """The config and the layers; layers that are fetched from elsewhere (`urls`) only where the store has them."""
    if isinstance(document.value, Index):
        return
    for blob in (document.value.config, *document.value.layers):
        if store.has(blob.digest) or not blob.elsewhere:
            yield blob


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
