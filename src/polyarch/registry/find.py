"""An image by whatever a user calls it: a name or a digest in the store, else a name in a registry."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.oci.layout import Layout, LayoutSource
from polyarch.oci.model import Document, parse_document
from polyarch.oci.reference import TRANSPORTS, parse_location, parse_reference
from polyarch.oci.source import Source
from polyarch.registry.source import open_source

_DIGEST = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{12,64})")


def find_local(layout: Layout, text: str) -> Document | None:
    """The image of that name or digest (its first twelve digits suffice) in the store, or None.

    Raises `InputError` when the text is no reference.
    """
    digest = _DIGEST.fullmatch(text)
    if digest is not None:
        for entry in layout.names().values():
            if entry.digest.startswith(f"sha256:{digest['hex']}"):
                return layout.document(entry)
        if len(digest["hex"]) == 64 and layout.has(f"sha256:{digest['hex']}"):
            return parse_document(layout.read(f"sha256:{digest['hex']}"), "", text)
        return None
    reference = parse_reference(text)
    found = layout.find(str(reference))
    if found is None and reference.digest and layout.has(reference.digest):
        found = parse_document(layout.read(reference.digest), "", text)
    return found


async def find_image(
    layout: Layout, text: str, platforms: Collection[Platform], *, tls_verify: bool = True
) -> Document:
    """The image in the store; one that is not there is pulled, only for these platforms.

    Raises `InputError` when there is none.
    """
    found = find_local(layout, text)
    if found is not None:
        return found
    if _DIGEST.fullmatch(text):
        raise InputError(f"no image {text} in the store", hint="polyarch images lists them")
    from polyarch.registry.client import Registry  # speaks HTTP, which what is in the store never needs
    from polyarch.registry.pull import pull

    reference = parse_reference(text)
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        return await pull(client, layout, reference, platforms=platforms)


@contextmanager
def open_image(layout: Layout, text: str, *, tls_verify: bool = True) -> Iterator[Source]:
    """An image to read, wherever it is: a name or digest of the store first, else what `parse_location` understands."""
    if text.partition(":")[0] not in TRANSPORTS and not text.endswith(".json") and text[:1] not in {".", "/"}:
        found = find_local(layout, text)
        if found is not None:
            yield LayoutSource(layout, found, text)
            return
    with open_source(parse_location(text), tls_verify=tls_verify) as source:
        yield source
