"""Where the parts of a new index come from: several images, and a layout that keeps what was fetched from them.

A blob is fetched when it is first needed and its digest checked on the way in; what the layout has already, or the
proof remembers, is not fetched.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final, TypeVar

from polyarch.errors import HostError, InputError
from polyarch.oci.layout import Layout
from polyarch.oci.model import DOCUMENT_LIMIT, Descriptor, Document, Index
from polyarch.oci.source import Source
from polyarch.report import Event, Sink
from polyarch.verify.documents import DIGEST, same_digest

_T = TypeVar("_T")
_AT_ONCE: Final = 4
_SLACK: Final = 1 << 20  # bytes that a blob may have more than twice what its descriptor says


class Stock:
    """Documents and blobs by digest, out of the layout or else the first source that has them.

    It is a `registry.push.BlobSource`. Every method raises `InputError` for what nobody has, `RegistryError` when a
    registry fails.
    """

    def __init__(self, layout: Layout, sources: Sequence[Source], show: Sink) -> None:
        self.layout = layout
        self.sources = tuple(sources)
        self._show = show
        self._locks: dict[str, threading.Lock] = {}
        self._blobs: dict[str, Descriptor] = {}

    def keep(self, document: Document) -> None:
        """Put a document into the layout."""
        self.layout.store(document)

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or an index; its digest is NOT checked, but only what has the right one is kept."""
        if self.layout.has(descriptor.digest):
            return self.layout.document(descriptor)
        found = self._ask(lambda source: source.document(descriptor))
        if same_digest(found.raw, descriptor.digest):
            self._write(descriptor.digest, found.raw)
        return found

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole; as with `document`, only the right bytes are kept."""
        if self.layout.has(descriptor.digest):
            return self.layout.read(descriptor.digest, limit)
        found = self._ask(lambda source: source.fetch(descriptor, limit))
        if same_digest(found, descriptor.digest):
            self._write(descriptor.digest, found)
        return found

    def _write(self, digest: str, data: bytes) -> None:
        """Raises `HostError`: that the layout cannot be written is not the fault of the image that is read."""
        try:
            self.layout.write(digest, [data])
        except OSError as error:
            hint = "is the disk full, or may the folder not be written?"
            raise HostError(f"{self.layout.path} cannot be written: {error.strerror}", hint=hint) from error

    def bring(self, blob: Descriptor) -> None:
        """Make sure that the layout has a blob. Raises `InputError` also for bytes with another digest."""
        if not DIGEST.fullmatch(blob.digest):
            raise InputError(f"{blob.digest[:80]!r} is no digest")
        with self._locks.setdefault(blob.digest, threading.Lock()):
            if not self.layout.has(blob.digest):
                self._ask(lambda source: self._copy(source, blob))
                self._show(Event("step", "fetch", f"{blob.digest[7:19]} ({blob.size} bytes)"))

    def bring_all(self, blobs: Sequence[Descriptor]) -> None:
        """The same for many, several at once; the first failure ends it."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [pool.submit(self.bring, blob) for blob in blobs]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def blobs(self, document: Document) -> tuple[Descriptor, ...]:
        """All configs and layers below a document, each once; its manifests are in the layout afterwards."""
        found: dict[str, Descriptor] = {}
        self._collect(document, found)
        self._blobs.update(found)
        return tuple(found.values())

    def has(self, digest: str) -> bool:
        """Whether the layout has it."""
        return self.layout.has(digest)

    def open(self, digest: str) -> BinaryIO:
        """A document, or a blob that `blobs` told of, as a file; fetched now if need be."""
        if not self.layout.has(digest) and digest in self._blobs:
            self.bring(self._blobs[digest])
        return self.layout.open(digest)

    def _collect(self, document: Document, found: dict[str, Descriptor]) -> None:
        if isinstance(document.value, Index):
            for entry in document.value.manifests:
                self._collect(self.document(entry), found)
            return
        for blob in (document.value.config, *document.value.layers):
            # What other places serve (`urls`) need not be here, and registries do not take it.
            if not blob.elsewhere or self.layout.has(blob.digest):
                found[blob.digest] = blob

    def _copy(self, source: Source, blob: Descriptor) -> None:
        with source.open(blob) as chunks:
            self.layout.write(blob.digest, _at_most(chunks, 2 * max(blob.size, 0) + _SLACK))

    def _ask(self, question: Callable[[Source], _T]) -> _T:
        problem = InputError("there is no image to take it from")
        for source in self.sources:
            try:
                return question(source)
            except InputError as error:
                problem = error
        raise problem


class Staged:
    """A document whose parts are in a stock, as a `Source`."""

    def __init__(self, stock: Stock, document: Document, name: str) -> None:
        self.name = name
        self._stock = stock
        self._document = document

    def top(self) -> Document:
        """The document."""
        return self._document

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or index of the image."""
        return self._stock.document(descriptor)

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole."""
        return self._stock.fetch(descriptor, limit)

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """A blob in chunks of 1 MiB, fetched first."""
        self._stock.bring(descriptor)
        with self._stock.layout.chunks(descriptor.digest) as chunks:
            yield chunks


def _at_most(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """A blob that does not end is cut off: its digest is wrong then, whatever would have followed."""
    for chunk in chunks:
        yield chunk
        size -= len(chunk)
        if size < 0:
            return
