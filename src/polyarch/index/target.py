"""Where a new index goes: a tag of polyarch's store, `oci:DIR:TAG`, or `docker://NAME`; the name changes last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from polyarch.errors import InputError
from polyarch.index.stock import Stock
from polyarch.oci.layout import Layout, LayoutSource
from polyarch.oci.model import Descriptor, Document
from polyarch.oci.reference import TRANSPORTS, Reference, parse_location, parse_reference
from polyarch.oci.source import Source
from polyarch.registry.client import Registry
from polyarch.registry.push import push
from polyarch.registry.source import RegistrySource
from polyarch.report import Sink


class Target(Protocol):
    """A name for an index."""

    @property
    def name(self) -> str:
        """As users write it."""

    @property
    def staging(self) -> Layout:
        """The layout that keeps what is fetched for it."""

    def current(self) -> AbstractContextManager[Source]:
        """The image that has the name. Raises `InputError` when none has."""

    def publish(self, stock: Stock, document: Document, before: str) -> None:
        """Make the image whole there, then give it the name.

        `before` is the digest that the name must still have, "" for any. Raises `InputError` when it has another by
        now or a part is missing, `RegistryError` when a registry fails; the old name stands then.
        """


@dataclass(frozen=True, slots=True)
class LayoutTarget:
    """A tag of a layout; blobs that are no image's yet do no harm there."""

    name: str
    staging: Layout
    tag: str

    @contextmanager
    def current(self) -> Iterator[Source]:
        """The tagged image."""
        entry = self.staging.names().get(self.tag)
        if entry is None:
            raise InputError(f"there is no {self.name}", hint="`polyarch index create` makes one")
        yield LayoutSource(self.staging, self.staging.document(entry), self.name)

    def publish(self, stock: Stock, document: Document, before: str) -> None:
        """Fetch what is missing, then tag."""
        stock.bring_all(stock.blobs(document))
        if before:
            entry = self.staging.names().get(self.tag)
            _same(self.name, before, entry.digest if entry else "")
        self.staging.tag(document, [self.tag])


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """A tag of a registry; what must be fetched for it stays in polyarch's store, as what is pulled does."""

    reference: Reference
    staging: Layout
    show: Sink
    tls_verify: bool

    @property
    def name(self) -> str:
        """As users write it."""
        return f"docker://{self.reference}"

    def current(self) -> AbstractContextManager[Source]:
        """The image in the registry."""
        return RegistrySource(self.reference, tls_verify=self.tls_verify)

    def publish(self, stock: Stock, document: Document, before: str) -> None:
        """Push what the registry lacks, manifests after blobs, the tag last."""
        asyncio.run(self._push(stock, document, before))

    async def _push(self, stock: Stock, document: Document, before: str) -> None:
        async with Registry(self.reference.registry, tls_verify=self.tls_verify) as client:
            blobs = await asyncio.to_thread(stock.blobs, document)
            origin = self._mountable(stock)
            if not origin:  # else the registry has most of them; the rest is fetched when a mount fails
                await asyncio.to_thread(stock.bring_all, await self._missing(client, stock, blobs))
            if before:
                _same(self.name, before, (await client.head_manifest(self.reference)).digest)
            await push(client, stock, document, self.reference, self.show, origin)

    async def _missing(self, client: Registry, stock: Stock, blobs: tuple[Descriptor, ...]) -> list[Descriptor]:
        repository = self.reference.repository
        wanted = [blob for blob in blobs if not stock.has(blob.digest)]
        found = await asyncio.gather(*(client.blob_exists(repository, blob.digest) for blob in wanted))
        return [blob for blob, there in zip(wanted, found, strict=True) if not there]

    def _mountable(self, stock: Stock) -> str:
        """Another repository of this registry that a source is in, "" when there is none."""
        names = [source.name.removeprefix("docker://") for source in stock.sources if "docker://" in source.name]
        same = (ref.repository for ref in map(parse_reference, names) if ref.registry == self.reference.registry)
        return next((repository for repository in same if repository != self.reference.repository), "")


def parse_target(text: str, store: Layout, show: Sink, *, tls_verify: bool) -> Target:
    """Read NAME (a tag of the store), `oci:DIR:TAG` or `docker://NAME`. Raises `InputError`."""
    if text.partition(":")[0] not in TRANSPORTS:
        reference = parse_reference(text)
        if not reference.digest:
            return LayoutTarget(text, store, str(reference))
        raise InputError(f"{text} names a digest", hint="name a tag; the digest follows from the content")
    location = parse_location(text)
    if location.reference is not None and location.transport == "docker" and not location.reference.digest:
        return RegistryTarget(location.reference, store, show, tls_verify)
    if location.path is not None and location.transport == "oci" and location.tag:
        return LayoutTarget(text, Layout(location.path), location.tag)
    raise InputError(
        f"{text} cannot be written to", hint="a tag of polyarch's store, oci:DIR:TAG, or docker://NAME without a digest"
    )


def _same(name: str, before: str, now: str) -> None:
    if before != now:
        raise InputError(f"{name} was changed by somebody else meanwhile", hint="nothing was done: run it again")
