"""Where an image can be read from, whatever the transport (containers-transports(5))."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any, TypeVar

from polyarch import run
from polyarch.errors import InputError
from polyarch.oci.layout import Layout, LayoutSource
from polyarch.oci.model import DOCUMENT_LIMIT, Descriptor, Document, parse_document
from polyarch.oci.reference import Location, Reference
from polyarch.oci.source import Source
from polyarch.registry.archives import docker_archive, oci_archive, open_tar

_T = TypeVar("_T")
_NAME = "image"


class RegistrySource:
    """An image in a registry, as a `Source`: the async client runs on a thread of its own. Use it inside `with`."""

    def __init__(self, reference: Reference, *, tls_verify: bool = True) -> None:
        from polyarch.registry.client import Registry  # speaks HTTP, which other transports never need

        self.name = f"docker://{reference}"
        self._reference = reference
        self._client = Registry(reference.registry, tls_verify=tls_verify)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True)

    def __enter__(self) -> RegistrySource:
        self._thread.start()
        self._wait(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def top(self) -> Document:
        """The document that the name points to; its digest is checked where the name has one."""
        return self._wait(self._client.get_manifest(self._reference))

    def document(self, descriptor: Descriptor) -> Document:
        """A manifest or index of the image, of the type that its descriptor states."""
        found, _ = self._wait(self._client.read_manifest(self._reference.with_digest(descriptor.digest)))
        return found.model_copy(update={"media_type": descriptor.media_type})

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:
        """A small blob whole. Raises `InputError` when it is missing or larger than `limit` bytes."""
        return self._wait(self._fetch(descriptor, limit))

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """A blob in chunks of up to 1 MiB; the next is on its way while one is looked at."""
        chunks = self._client.read_blob(self._reference.repository, descriptor.digest)
        first = self._wait(anext(chunks, None))  # a missing blob is told at once
        given = self._iterate(first, chunks)
        try:
            yield given
        finally:
            given.close()
            self._wait(chunks.aclose())

    def _iterate(self, chunk: bytes | None, chunks: AsyncIterator[bytes]) -> Generator[bytes, None, None]:
        while chunk is not None:
            following = asyncio.run_coroutine_threadsafe(_next(chunks), self._loop)
            try:
                yield chunk
            except GeneratorExit:
                # Who stops early must not close `chunks` while it runs.
                wait([following])
                raise
            chunk = following.result()

    async def _fetch(self, descriptor: Descriptor, limit: int) -> bytes:
        data = bytearray()
        async with contextlib.aclosing(self._client.read_blob(self._reference.repository, descriptor.digest)) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise InputError(f"{self.name}: blob {descriptor.digest} is larger than {limit} bytes")
        return bytes(data)

    async def _end(self) -> None:
        await self._client.__aexit__()
        await self._loop.shutdown_asyncgens()

    def _wait(self, job: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()


class FileSource:
    """A bare manifest or index in a file: a `Source` that has nothing of what the document points to."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            with path.open("rb") as file:
                self._top = parse_document(file.read(DOCUMENT_LIMIT + 1), "", self.name)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def top(self) -> Document:
        """The document itself."""
        return self._top

    def document(self, descriptor: Descriptor) -> Document:
        """Raises `InputError`: a file has no other documents."""
        raise self._missing(descriptor)

    def fetch(self, descriptor: Descriptor, limit: int = DOCUMENT_LIMIT) -> bytes:  # noqa: ARG002 - Source has it
        """Raises `InputError`: a file has no blobs."""
        raise self._missing(descriptor)

    def open(self, descriptor: Descriptor) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        """Raises `InputError`: a file has no blobs."""
        raise self._missing(descriptor)

    def _missing(self, descriptor: Descriptor) -> InputError:
        return InputError(
            f"{self.name}: {descriptor.digest} is not here; the file is a bare document",
            hint="name the image where it is: docker://, oci:, oci-archive:",
        )


@contextlib.contextmanager
def open_source(location: Location, tls_verify: bool = True) -> Iterator[Source]:
    """The image at a location, for as long as the context lasts.

    Raises `InputError` when there is no such image, `HostError` when `containers-storage:` is asked for and skopeo is
    not installed, `RegistryError` when a registry fails.
    """
    name = str(location)
    if location.transport == "docker" and location.reference is not None:
        with RegistrySource(location.reference, tls_verify=tls_verify) as source:
            yield source
    elif location.transport == "containers-storage":
        with tempfile.TemporaryDirectory(prefix="polyarch-") as folder:
            yield _layout(_out_of_storage(name, Path(folder)), _NAME, name)
    elif location.path is None:
        raise InputError(f"{name} names no image")
    elif location.transport == "oci":
        yield _layout(Layout(location.path), location.tag, name)
    elif location.transport in {"oci-archive", "docker-archive"}:
        with open_tar(location.path, name) as tar:
            yield (oci_archive if location.transport == "oci-archive" else docker_archive)(tar, location.tag)
    else:
        yield FileSource(location.path)


def _layout(layout: Layout, tag: str, name: str) -> LayoutSource:
    if not (layout.path / "index.json").is_file():
        raise InputError(f"{layout.path} is not an OCI image layout", detail="it has no index.json")
    found = layout.find(tag)
    if found is None:
        names = ", ".join(sorted(layout.names())) or "none"
        raise InputError(f"{name}: no such image in the layout", detail=f"it has: {names}")
    return LayoutSource(layout, found, name)


def _out_of_storage(name: str, folder: Path) -> Layout:
    """A copy of an image of podman's storage; layers stay plain tars, since packing them would change their digests."""
    run.need("skopeo")
    done = run.capture(
        ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", name, f"oci:{folder}:{_NAME}"],
        check=False,
    )
    if not done.ok:
        raise InputError(f"{name} cannot be read from podman's storage", detail=done.stderr.strip())
    return Layout(folder)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
