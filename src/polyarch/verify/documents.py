"""What can be said of an image before a layer is read: its documents, descriptors and platforms.

Sources: OCI image-spec `image-index.md`, `manifest.md`, `config.md`, `descriptor.md`; Docker image
manifest v2 schema 2; BuildKit `docs/attestations/attestation-storage.md`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.oci import model
from polyarch.oci.model import Descriptor, Document, ImageConfig, Index, Manifest, digest_of, parse_config
from polyarch.oci.source import Source
from polyarch.verify.facts import Compression
from polyarch.verify.image import Image, allowances
from polyarch.verify.report import Findings

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
LAYER_TYPES: Final[dict[str, Compression]] = {
    model.OCI_LAYER: "tar", model.OCI_LAYER_GZIP: "gzip", model.OCI_LAYER_ZSTD: "zstd",
    model.NONDISTRIBUTABLE: "tar", f"{model.NONDISTRIBUTABLE}+gzip": "gzip", f"{model.NONDISTRIBUTABLE}+zstd": "zstd",
    _DOCKER_LAYER: "tar", model.DOCKER_LAYER: "gzip", f"{_DOCKER_LAYER}.zstd": "zstd",
    model.DOCKER_FOREIGN_LAYER: "gzip",
}  # fmt: skip
_CONFIG_TYPES: Final = frozenset((model.OCI_CONFIG, model.DOCKER_CONFIG))
_DOCUMENT_TYPES: Final = model.INDEX_TYPES | model.MANIFEST_TYPES
_MOST_DOCUMENTS: Final = 1000
_DEEPEST: Final = 3


@dataclass
class Survey:
    """All manifests of an image, in the order of the index, and what is wrong with the documents so far."""

    images: list[Image] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    entries: int = 0


def survey(source: Source) -> Survey:
    """Read every document that `source` names and judge it. Raises `InputError` when there is no top document."""
    found = Survey()
    top = source.top()
    _document(source, top, top.descriptor, found, 0)
    _platforms(found)
    return found


def _document(source: Source, document: Document, descriptor: Descriptor, found: Survey, depth: int) -> None:
    findings = Findings(_label(descriptor))
    _judge_document(document, descriptor, findings)
    if isinstance(document.value, Manifest):
        found.images.append(_image(source, document.value, descriptor, findings, depth > 0))
    found.findings.extend(findings.all())
    if isinstance(document.value, Index):
        _index(source, document.value, document.digest, found, depth)


def _index(source: Source, index: Index, digest: str, found: Survey, depth: int) -> None:
    found.entries += len(index.manifests)
    if depth >= _DEEPEST or found.entries > _MOST_DOCUMENTS:
        found.findings.add("index-nesting", f"more than {_DEEPEST} deep, or {_MOST_DOCUMENTS} documents", layer=digest)
        return
    if not index.images():
        found.findings.add("index-empty", "the index names no image", layer=digest)
    _attestations(index, found.findings)
    for entry in index.manifests:
        findings = Findings(_label(entry))
        child = _read(source, entry, findings)
        found.findings.extend(findings.all())
        if child is not None:
            _document(source, child, entry, found, depth + 1)


def _label(descriptor: Descriptor) -> str:
    return str(descriptor.platform.platform) if descriptor.platform else ""


def _read(source: Source, entry: Descriptor, findings: Findings) -> Document | None:
    """The document of an index's entry, or None with the reason noted."""
    if not DIGEST.fullmatch(entry.digest):
        findings.add("digest-invalid", f"{entry.digest[:80]!r} is no digest", layer=entry.digest[:80])
        return None
    if entry.media_type not in _DOCUMENT_TYPES:
        findings.add(
            "media-type-unknown", f"{entry.media_type!r} is no type of a manifest or an index", layer=entry.digest
        )
    try:
        return source.document(entry)
    except (InputError, OSError) as error:
        findings.add("document-unreadable", _say(error), layer=entry.digest)
        return None


def _judge_document(document: Document, descriptor: Descriptor, findings: Findings) -> None:
    value, digest = document.value, descriptor.digest
    if value.schema_version != 2:
        findings.add("schema-version", f"schemaVersion is {value.schema_version or 'missing'}", layer=digest)
    if not same_digest(document.raw, digest):
        findings.add("digest-mismatch", f"the document has {digest_of(document.raw)}", layer=digest)
    elif len(document.raw) != descriptor.size:
        findings.add("size-mismatch", f"{len(document.raw)} bytes, the descriptor says {descriptor.size}", layer=digest)
    fits = model.INDEX_TYPES if isinstance(value, Index) else model.MANIFEST_TYPES
    stated = value.media_type or descriptor.media_type
    if stated not in _DOCUMENT_TYPES and descriptor.media_type in _DOCUMENT_TYPES:
        findings.add("media-type-unknown", f"the document calls itself {stated!r}", layer=digest)
    elif descriptor.media_type in _DOCUMENT_TYPES and (stated != descriptor.media_type or stated not in fits):
        what = "an index" if isinstance(value, Index) else "a manifest"
        findings.add(
            "media-type-mismatch",
            f"{what} that calls itself {stated!r}, described as {descriptor.media_type!r}",
            layer=digest,
        )


def _image(source: Source, manifest: Manifest, descriptor: Descriptor, findings: Findings, listed: bool) -> Image:
    """The manifest with its config, told apart from attestations and artifacts."""
    stated = descriptor.platform.platform if descriptor.platform else None
    if descriptor.is_attestation:
        return Image("attestation", stated, descriptor, manifest)
    if manifest.artifact_type or descriptor.artifact_type:
        return Image("artifact", stated, descriptor, manifest)
    if manifest.config.media_type not in _CONFIG_TYPES:
        findings.add(
            "media-type-unknown",
            f"{manifest.config.media_type!r} is no type of an image config",
            layer=manifest.config.digest,
        )
    config = _config(source, manifest.config, findings)
    platform = stated or (config.platform if config and config.architecture else None)
    labels = config.config.labels if config and config.config else None
    allow = allowances((manifest.annotations, descriptor.annotations, labels))
    return Image("image", platform, descriptor, manifest, config, allow, listed)


def _config(source: Source, descriptor: Descriptor, findings: Findings) -> ImageConfig | None:
    digest = descriptor.digest
    if not DIGEST.fullmatch(digest):
        findings.add("digest-invalid", f"{digest[:80]!r} is no digest", layer=digest[:80])
        return None
    try:
        raw = source.fetch(descriptor)
    except (InputError, OSError) as error:
        findings.add("config-invalid", _say(error), layer=digest)
        return None
    if not same_digest(raw, digest):
        findings.add("digest-mismatch", f"the config has {digest_of(raw)}", layer=digest)
    elif len(raw) != descriptor.size:
        findings.add("size-mismatch", f"{len(raw)} bytes, the descriptor says {descriptor.size}", layer=digest)
    try:
        return parse_config(raw, "config")
    except InputError as error:
        findings.add("config-invalid", _say(error), layer=digest)
        return None


def _attestations(index: Index, findings: Findings) -> None:
    known = {entry.digest for entry in index.images()}
    for entry in index.manifests:
        target = (entry.annotations or {}).get(REFERENCE_DIGEST)
        if entry.is_attestation and target not in known:
            findings.add("attestation-orphan", f"it belongs to {target!r}, which is not here", layer=entry.digest)


def _platforms(found: Survey) -> None:
    """Duplicates and conflicts among the entries of an index."""
    images = [image for image in found.images if image.kind == "image"]
    entries = Counter(_key(image) for image in images if image.platform)
    for key, count in entries.items():
        if count > 1:
            found.findings.add("platform-duplicate", f"{count} entries for {key[0]}{' ' if key[1] else ''}{key[1]}")
    stated: dict[str, set[Platform]] = {}
    for image in images:
        if image.descriptor.platform:
            stated.setdefault(image.descriptor.digest, set()).add(image.descriptor.platform.platform)
    conflicts = {digest: platforms for digest, platforms in stated.items() if len(platforms) > 1}
    for digest, platforms in conflicts.items():
        found.findings.add(
            "platform-conflict", f"one manifest for {', '.join(map(str, sorted(platforms)))}", layer=digest
        )
    # Of such entries only the one that the config agrees with is worth judging: the rest is wrong by its label.
    found.images = [image for image in found.images if image.descriptor.digest not in conflicts or _agrees(image)]


def _agrees(image: Image) -> bool:
    return image.config is not None and image.platform == image.config.platform


def _key(image: Image) -> tuple[Platform | None, str]:
    """What must be unique in an index. Windows images differ by `os.version` alone."""
    field_ = image.descriptor.platform
    return image.platform, (field_.os_version or "") if field_ else ""


def same_digest(raw: bytes, digest: str) -> bool:
    """Whether the bytes have this digest; false for an algorithm that the spec does not register."""
    algorithm, _, expected = digest.partition(":")
    return algorithm in ("sha256", "sha512") and hashlib.new(algorithm, raw).hexdigest() == expected


def blobs(image: Image) -> Iterator[Descriptor]:
    """The blobs that are streamed: the layers, and the config of what is no image (an image's was read already)."""
    if image.kind != "image":
        yield image.manifest.config
    yield from image.manifest.layers


def _say(error: InputError | OSError) -> str:
    if isinstance(error, InputError):
        return f"{error.message}: {error.detail}" if error.detail else error.message
    return str(error)
