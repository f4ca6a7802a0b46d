"""An image leaves for a registry: proved first, then blobs, then manifests, the name last."""

from __future__ import annotations

from polyarch.oci.layout import Layout
from polyarch.oci.model import Document
from polyarch.oci.reference import Reference
from polyarch.registry.client import Registry
from polyarch.registry.push import push
from polyarch.report import Sink
from polyarch.verify.gate import prove


async def ship(layout: Layout, image: Document, reference: Reference, show: Sink, *, tls_verify: bool = True) -> None:
    """Push a proved image under a name. Raises what `prove` and `push` raise."""
    prove(layout, image, str(reference), show)
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        await push(client, layout, image, reference, show)
