"""Images that polyarch makes: media types of one family, configs that state their platform, manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyarch.arch import Platform
from polyarch.oci.layout import Layout
from polyarch.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    PlatformField,
    document,
)


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """What the documents and the compressed layers of one image are called."""

    config: str
    layer: str
    manifest: str
    index: str


OCI: Final = MediaTypes(OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, OCI_INDEX)
DOCKER: Final = MediaTypes(DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, DOCKER_LIST)


def media_types(docker_format: bool) -> MediaTypes:
    """Those of `--format docker`, or of OCI."""
    return DOCKER if docker_format else OCI


def labelled(config: Mapping[str, Any], platform: Platform) -> dict[str, Any]:
    """An image config (as JSON) that states this platform and no other."""
    stated = {**config, "os": platform.os, "architecture": platform.architecture}
    stated.pop("variant", None)
    return stated | ({"variant": platform.variant} if platform.variant else {})


def store_image(
    layout: Layout,
    platform: Platform,
    config: bytes,
    blobs: Sequence[Descriptor],
    types: MediaTypes = OCI,
    annotations: dict[str, str] | None = None,
) -> Descriptor:
    """Add config and manifest of one platform's image, whose layers are there; gzip layers get the family's type.

    Returns the manifest's descriptor with its platform, as an index has it.
    """
    manifest = Manifest(
        schema_version=2,
        media_type=types.manifest,
        config=Descriptor(media_type=types.config, digest=layout.add(config), size=len(config)),
        layers=tuple(_typed(blob, types) for blob in blobs),
        annotations=annotations,
    )
    stored = layout.store(document(manifest))
    return stored.model_copy(update={"platform": PlatformField.of(platform)})


def _typed(blob: Descriptor, types: MediaTypes) -> Descriptor:
    return blob.model_copy(update={"media_type": types.layer}) if blob.media_type.endswith("gzip") else blob
