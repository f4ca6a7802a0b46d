"""Descriptors, manifests, indexes and configs (OCI image-spec v1.1 and Docker image manifest v2 schema 2).

A `Document` carries the raw bytes beside what they say: digests are taken over bytes, and a manifest that is written
out again must be the one that was read.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from polyarch.arch import Platform, normalise
from polyarch.errors import InputError

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
FOREIGN_LAYERS: Final = frozenset(
    (NONDISTRIBUTABLE, f"{NONDISTRIBUTABLE}+gzip", f"{NONDISTRIBUTABLE}+zstd", DOCKER_FOREIGN_LAYER)
)
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ATTESTATION: Final = "vnd.docker.reference.type"
REF_NAME: Final = "org.opencontainers.image.ref.name"
DOCUMENT_LIMIT: Final = 4 << 20  # bytes; what registries accept of a manifest


class _Model(BaseModel):
    """Immutable, camelCase on the wire, unknown members kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)

    def wire(self) -> dict[str, Any]:
        """The JSON object, with absent members left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


class PlatformField(_Model):
    """`platform` of a descriptor in an index."""

    architecture: str = ""
    os: str = ""
    variant: str | None = None
    os_version: str | None = Field(None, alias="os.version")
    os_features: tuple[str, ...] | None = Field(None, alias="os.features")

    @classmethod
    def of(cls, platform: Platform) -> PlatformField:
        """What states this platform."""
        return cls(os=platform.os, architecture=platform.architecture, variant=platform.variant or None)

    @property
    def platform(self) -> Platform:
        """The normalised platform."""
        return normalise(self.os, self.architecture, self.variant or "")


class Descriptor(_Model):
    """A typed, sized pointer to bytes. `size` is in bytes; one below 0 is for the proof to find."""

    media_type: str
    digest: str
    size: int
    platform: PlatformField | None = None
    annotations: dict[str, str] | None = None
    urls: tuple[str, ...] | None = None
    artifact_type: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the blob is of a kind that may be kept away from its image, and says where (`layer.md`, old)."""
        return bool(self.urls) and self.media_type in FOREIGN_LAYERS

    @property
    def is_attestation(self) -> bool:
        """BuildKit's attestation manifests (`unknown/unknown` with a reference type) are kept, never run or judged."""
        return ATTESTATION in (self.annotations or {})


class Manifest(_Model):
    """One platform's image: a config and its layers, lowest first."""

    schema_version: int = 0  # where it is left out, which is an error that can be mended
    media_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None
    subject: Descriptor | None = None
    artifact_type: str | None = None


class Index(_Model):
    """Several platforms' manifests under one name."""

    schema_version: int = 0  # where it is left out, which is an error that can be mended
    media_type: str | None = None
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None
    subject: Descriptor | None = None
    artifact_type: str | None = None

    def images(self) -> tuple[Descriptor, ...]:
        """The entries that are images, not attestations."""
        return tuple(entry for entry in self.manifests if not entry.is_attestation)


class RunConfig(_Model):
    """`config` of an image config; the members are capitalised on the wire (image-spec `config.md`)."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, alias_generator=lambda n: n.title())

    user: str | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    working_dir: str | None = Field(None, alias="WorkingDir")
    on_build: tuple[str, ...] | None = Field(None, alias="OnBuild")
    shell: tuple[str, ...] | None = None


class RootFS(_Model):
    """The digests of the uncompressed layers, lowest first."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class ImageConfig(_Model):
    """An image's config blob."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    architecture: str = ""
    os: str = ""
    variant: str | None = None
    config: RunConfig | None = None
    rootfs: RootFS = Field(default_factory=RootFS)

    @property
    def platform(self) -> Platform:
        """The normalised platform that the config states."""
        return normalise(self.os, self.architecture, self.variant or "")


class Document(BaseModel):
    """A manifest or an index with the bytes it was read from."""

    model_config = ConfigDict(frozen=True)

    raw: bytes
    media_type: str
    value: Manifest | Index

    @property
    def digest(self) -> str:
        """The digest of the raw bytes."""
        return digest_of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of this document, without a platform."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))


def digest_of(data: bytes) -> str:
    """`sha256:…` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(value: _Model) -> bytes:
    """Canonical bytes of a document that polyarch makes: sorted keys, no spaces."""
    return json.dumps(value.wire(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def document(value: Manifest | Index) -> Document:
    """Wrap a document that polyarch made."""
    raw = encode(value)
    return parse_document(raw, value.media_type or "", "a document made here")


def parse_document(raw: bytes, media_type: str, where: str) -> Document:
    """Read a manifest or an index.

    `media_type` is what the server or the descriptor said, or "" to take the document's own word (by its members
    where it is silent: OCI manifests may be). Raises `InputError` naming `where`.
    """
    data = load_json(raw, where)
    kind = media_type or data.get("mediaType") or (OCI_INDEX if "manifests" in data else OCI_MANIFEST)
    model: type[Manifest | Index] = Index if "manifests" in data else Manifest
    try:
        return Document(raw=raw, media_type=kind, value=model.model_validate(data))
    except ValidationError as error:
        raise InputError(f"{where}: not a valid {model.__name__.lower()}", detail=_explain(error)) from error


def parse_config(raw: bytes, where: str) -> ImageConfig:
    """Read an image config. Raises `InputError` naming `where`."""
    try:
        return ImageConfig.model_validate(load_json(raw, where))
    except ValidationError as error:
        raise InputError(f"{where}: not a valid image config", detail=_explain(error)) from error


def load_json(raw: bytes, where: str) -> dict[str, Any]:
    """A JSON object from foreign bytes. Raises `InputError` naming `where`."""
    if len(raw) > DOCUMENT_LIMIT:
        raise InputError(f"{where}: larger than {DOCUMENT_LIMIT} bytes")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON", detail=str(error)) from error
    if not isinstance(data, dict):
        raise InputError(f"{where}: not a JSON object")
    return data


def _explain(error: ValidationError) -> str:
    return "\n".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
