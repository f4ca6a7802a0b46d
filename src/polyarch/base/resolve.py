"""Where the image of a FROM comes from: polyarch's own store first, else a registry, else podman's storage.

A name in the store hides the remote one, as a local tag does in docker.
Only manifests and one config are read here; layers come when a build needs them (`fetch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.errors import PolyarchError
from polyarch.oci.layout import Layout, adopt, platforms_of
from polyarch.oci.model import Descriptor, Document, Index, Manifest, RunConfig, parse_config, parse_document
from polyarch.oci.reference import Reference, parse_location, parse_reference
from polyarch.registry.client import Registry
from polyarch.registry.pull import pull
from polyarch.registry.source import open_source


async def answers(layout: Layout, names: Iterable[str], *, tls_verify: bool = True) -> dict[str, BaseAnswer]:
    """Ask for every image by the name that the Dockerfile gives it; what cannot be found is an answer too."""
    wanted = tuple(dict.fromkeys(names))
    found = await asyncio.gather(*(_answer(layout, name, tls_verify) for name in wanted))
    return dict(zip(wanted, found, strict=True))


async def fetch(
    layout: Layout, answer: BaseAnswer, platforms: Collection[Platform], *, tls_verify: bool = True
) -> None:
    """Bring the images of these platforms into the layout, if they are not there."""
    if answer.where != "registry":
        return
    reference = parse_reference(answer.name)
    offered = dict(answer.offered)
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        for digest in dict.fromkeys(offered[platform] for platform in platforms):
            if not layout.whole(digest):
                await pull(client, layout, reference.with_digest(digest))


async def _answer(layout: Layout, name: str, tls_verify: bool) -> BaseAnswer:
    try:
        reference = parse_reference(name)
        document = layout.find(str(reference))
        if document is not None:
            return _local(layout, name, document)
        return await _remote(layout, name, reference, tls_verify)
    except PolyarchError as error:
        document = await asyncio.to_thread(_of_podman, layout, name)
        if document is not None:
            return _local(layout, name, document)
        return BaseAnswer(name, problem=f"base {name}: {error.message}", hint=error.hint)


def _of_podman(layout: Layout, name: str) -> Document | None:
    """An image that only podman's storage has, copied into the layout; None when it has none."""
    try:
        with open_source(parse_location(f"containers-storage:{name}")) as source:
            document = source.top()
            adopt(layout, source, document)
    except PolyarchError:
        return None
    return document


def _local(layout: Layout, name: str, document: Document) -> BaseAnswer:
    platforms = platforms_of(layout, document)
    config = RunConfig()
    for descriptor in list(platforms.values())[:1]:
        manifest = layout.document(descriptor).value
        if isinstance(manifest, Manifest):
            config = parse_config(layout.read(manifest.config.digest), name).config or config
    return _described(name, "store", document, platforms, config)


async def _remote(layout: Layout, name: str, reference: Reference, tls_verify: bool) -> BaseAnswer:
    """Resolve by HEAD, and take documents by digest: registries count GETs of manifests."""
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        head = await client.head_manifest(reference)
        document = await _document(client, layout, reference, head.digest)
        platforms = platforms_of(layout, document) if isinstance(document.value, Index) else {}
        first = next((descriptor.digest for descriptor in platforms.values()), document.digest)
        manifest = (await _document(client, layout, reference, first)).value
        config = RunConfig()
        if isinstance(manifest, Manifest):
            whole = parse_config(await _blob(client, layout, reference, manifest.config), name)
            platforms = platforms or {whole.platform: document.descriptor}
            config = whole.config or config
    return _described(name, "registry", document, platforms, config)


async def _document(client: Registry, layout: Layout, reference: Reference, digest: str) -> Document:
    if digest and layout.has(digest):
        return parse_document(layout.read(digest), "", str(reference))
    document = await client.get_manifest(reference.with_digest(digest) if digest else reference)
    layout.store(document)
    return document


async def _blob(client: Registry, layout: Layout, reference: Reference, descriptor: Descriptor) -> bytes:
    if not layout.has(descriptor.digest):
        chunks = [chunk async for chunk in client.get_blob(reference.repository, descriptor)]
        layout.write(descriptor.digest, chunks)
    return layout.read(descriptor.digest)


def _described(
    name: str, where: str, document: Document, platforms: dict[Platform, Descriptor], config: RunConfig
) -> BaseAnswer:
    offered = tuple((platform, descriptor.digest) for platform, descriptor in platforms.items())
    return BaseAnswer(name, where, offered, plain=isinstance(document.value, Manifest), config=config)
