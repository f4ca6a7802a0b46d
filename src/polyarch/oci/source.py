"""What the rooms that read images need of whatever holds one: a layout, an archive, a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from polyarch.oci.model import Descriptor, Document


class Source(Protocol):
    """One image (an index or a single manifest) and the blobs it points to; safe to use from several threads."""

    @property
    def name(self) -> str:
        """How messages call it: `oci:DIR:TAG`, `docker://HOST/NAME:TAG`."""

    def top(self) -> Document:
        """The document that the name points to. Raises `InputError` when there is none."""

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or index that a descriptor points to; bytes as they are, digest NOT checked here."""

    def fetch(self, descriptor: Descriptor, limit: int = 4 << 20) -> bytes:
        """A small blob (a config) whole, at most `limit` bytes; digest NOT checked here.

        Raises `InputError` when the blob is missing.
        """

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """A blob's bytes in chunks, as stored (compressed), from one pass. Raises `InputError` when it is missing."""
