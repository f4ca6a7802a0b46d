"""What can be mended of an image's documents, pure: documents and facts in, new documents and the changes out.

A document that is right keeps its bytes, and so its digest. Nothing here guesses at content: what the bytes do not
say stays as it is, and the proof then names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyarch.arch import Platform
from polyarch.index.edit import is_image, key_of, subject_of
from polyarch.index.platform import field_for, proved_platform
from polyarch.oci import model
from polyarch.oci.inspect import REFERENCE_DIGEST
from polyarch.oci.made import labelled
from polyarch.oci.model import Descriptor, Document, ImageConfig, Index, Manifest, digest_of, encode, parse_config
from polyarch.verify.documents import LAYER_TYPES
from polyarch.verify.facts import LayerFacts
from polyarch.verify.image import Image, allowances

_CHUNKED: Final = "io.github.containers.zstd-chunked."
_CONFIG_TYPES: Final = (model.OCI_CONFIG, model.DOCKER_CONFIG)
_DOCKER_FAMILY: Final = "application/vnd.docker.image.rootfs."
_OCI_FAMILY: Final = "application/vnd.oci.image.layer.v1."
_NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1."


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was mended: where (`index`, or a platform and a short digest), what, from, to."""

    where: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Part:
    """An entry of an index, and the documents found for it, each of which has the digest that names it.

    `document` is None when there is no such manifest; `config` likewise, and for what is no image.
    """

    entry: Descriptor
    document: Document | None = None
    config: bytes | None = None


@dataclass(frozen=True, slots=True)
class Mended:
    """A part as it was and as it should be, and what is different."""

    old: Part
    new: Part
    changes: tuple[Change, ...] = ()

    @property
    def trust(self) -> tuple[bool, bool]:
        """Of two entries for one platform the better: one that is there, and was called so from the start."""
        platforms = [part.entry.platform.platform if part.entry.platform else None for part in (self.old, self.new)]
        return self.new.document is not None, platforms[0] == platforms[1]


def mend_part(part: Part, facts: Mapping[str, LayerFacts]) -> Mended:
    """Mend one entry, its manifest, and the platform that its config states. `facts` are those of layers by digest."""
    if part.document is None or isinstance(part.document.value, Index):
        return Mended(part, part)
    before, docker = part.document.value, _is_docker(part.document.value, part.entry)
    value, config, platform = before, part.config, None
    if config is not None:
        parsed = parse_config(config, "config")
        value = _mend_blobs(before, config, facts, docker=docker)
        platform = proved_platform(_as_image(part.entry, value, parsed), facts)
        if platform is not None and _lies(parsed, platform):
            config = _relabelled(config, platform)
            about = {"digest": digest_of(config), "size": len(config)}
            value = value.model_copy(update={"config": value.config.model_copy(update=about)})
    value = _mend_head(value, docker=docker)
    kind = value.media_type or (model.DOCKER_MANIFEST if docker else model.OCI_MANIFEST)
    document = Document(raw=part.document.raw if value == before else encode(value), media_type=kind, value=value)
    entry = _mend_entry(part.entry, document, platform, kept=value == before)
    new = Part(entry, document, config)
    return Mended(part, new, tuple(_changes(part, new)))


def mend_index(index: Index, stated: str, parts: Sequence[Mended]) -> tuple[Index, tuple[Change, ...]]:
    """The index of mended parts: each platform once, attestations with their image; and what changed of the index.

    `stated` is the media type that the index goes by.
    """
    chosen = _chosen(parts)
    kept = [parts[number] for number in sorted(chosen)]
    twins = [part for number, part in enumerate(parts) if number not in chosen]
    changes = [Change("index", f"duplicate {_name(p.new.entry)}", _name(p.old.entry), "removed") for p in twins]
    renamed = {part.old.entry.digest: part.new.entry.digest for part in kept}
    entries: list[Descriptor] = []
    for part in kept:
        entry = part.new.entry
        subject = subject_of(entry)
        if entry.is_attestation and subject not in renamed:
            changes.append(Change("index", "attestation of no image", _name(entry), "removed"))
            continue
        if entry.is_attestation and renamed[subject] != subject:
            about = {"annotations": {**(entry.annotations or {}), REFERENCE_DIGEST: renamed[subject]}}
            changes.append(Change(_name(entry), REFERENCE_DIGEST, subject[7:19], renamed[subject][7:19]))
            entry = entry.model_copy(update=about)
        if entry not in entries:
            entries.append(entry)
    head = {"schema_version": 2, "media_type": _index_type(index, stated, entries)}
    mended = index.model_copy(update=head)
    changes += _differences("index", index.wire(), mended.wire())
    return mended.model_copy(update={"manifests": tuple(entries)}), tuple(changes)


def _chosen(parts: Sequence[Mended]) -> set[int]:
    """Which parts stay: of the images for one platform the most trusted, of equals the last (lists grow at the end)."""
    best: dict[object, int] = {}
    for number, part in enumerate(parts):
        entry = part.new.entry
        key: object = key_of(entry) if is_image(entry) else (entry.digest, subject_of(entry))
        if key not in best or part.trust >= parts[best[key]].trust:
            best[key] = number
    return set(best.values())


def _index_type(index: Index, stated: str, entries: Sequence[Descriptor]) -> str:
    """The type that the index states itself, else that it goes by, else the one that fits its entries."""
    known = [kind for kind in (index.media_type, stated) if kind in model.INDEX_TYPES]
    docker = bool(entries) and all(entry.media_type == model.DOCKER_MANIFEST for entry in entries)
    return (known[0] if known else None) or (model.DOCKER_LIST if docker else model.OCI_INDEX)


def _is_docker(manifest: Manifest, entry: Descriptor) -> bool:
    for kind in (manifest.media_type, entry.media_type):
        if kind in model.MANIFEST_TYPES:
            return kind == model.DOCKER_MANIFEST
    return manifest.config.media_type == model.DOCKER_CONFIG


def _as_image(entry: Descriptor, manifest: Manifest, config: ImageConfig) -> Image:
    labels = config.config.labels if config.config else None
    allow = allowances((manifest.annotations, entry.annotations, labels))
    return Image("image", None, entry, manifest, config, allow, listed=True)


def _mend_blobs(manifest: Manifest, config: bytes, facts: Mapping[str, LayerFacts], *, docker: bool) -> Manifest:
    """Config and layers as their bytes are."""
    about: dict[str, object] = {"size": len(config)}
    if manifest.config.media_type not in _CONFIG_TYPES:
        about["media_type"] = model.DOCKER_CONFIG if docker else model.OCI_CONFIG
    layers = tuple(
        _mend_layer(layer, facts[layer.digest], docker=docker) if layer.digest in facts else layer
        for layer in manifest.layers
    )
    return manifest.model_copy(update={"config": manifest.config.model_copy(update=about), "layers": layers})


def _mend_layer(layer: Descriptor, facts: LayerFacts, *, docker: bool) -> Descriptor:
    """Size and media type by the bytes; no table of contents is promised that they do not have."""
    kind = layer.media_type
    if LAYER_TYPES.get(kind) != facts.compression:
        own = _DOCKER_FAMILY if docker else _OCI_FAMILY
        family = _NONDISTRIBUTABLE if kind.startswith(_NONDISTRIBUTABLE) else own
        fitting = (t for t, compression in LAYER_TYPES.items() if compression == facts.compression)
        kind = next((t for t in fitting if t.startswith(family)), kind)
    annotations = layer.annotations
    if annotations and not facts.chunked:
        annotations = {key: value for key, value in annotations.items() if not key.startswith(_CHUNKED)} or None
    return layer.model_copy(update={"media_type": kind, "size": facts.size, "annotations": annotations})


def _mend_head(manifest: Manifest, *, docker: bool) -> Manifest:
    kind = manifest.media_type
    if kind is not None and kind not in model.MANIFEST_TYPES:
        kind = model.DOCKER_MANIFEST if docker else model.OCI_MANIFEST
    return manifest.model_copy(update={"schema_version": 2, "media_type": kind})


def _mend_entry(entry: Descriptor, document: Document, platform: Platform | None, *, kept: bool) -> Descriptor:
    about: dict[str, object] = {"media_type": document.media_type, "size": len(document.raw)}
    if not kept:
        about["digest"] = document.digest
    if platform is not None:
        about["platform"] = field_for(platform, entry.platform)
    return entry.model_copy(update=about)


def _lies(config: ImageConfig, platform: Platform) -> bool:
    """Whether a config says another platform; one that leaves the variant out says none."""
    unsaid = not config.variant and (config.os, config.architecture) == (platform.os, platform.architecture)
    return config.platform != platform and not unsaid


def _relabelled(config: bytes, platform: Platform) -> bytes:
    return json.dumps(labelled(json.loads(config), platform), separators=(",", ":"), ensure_ascii=False).encode()


def _changes(old: Part, new: Part) -> Iterator[Change]:
    """What was changed, by its cause: digests of documents follow from it."""
    name = _name(old.entry)
    yield from _differences(f"{name} in the index", old.entry.wire(), new.entry.wire())
    if old.document is not None and new.document is not None:
        yield from _differences(f"{name} manifest", old.document.value.wire(), new.document.value.wire())
    if old.config is not None and new.config is not None and old.config != new.config:
        configs = [parse_config(raw, "config") for raw in (old.config, new.config)]
        yield Change(f"{name} config", "platform", *(str(config.platform) for config in configs))


def _differences(where: str, old: Any, new: Any, path: str = "") -> Iterator[Change]:  # noqa: ANN401 - any JSON
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _differences(where, old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(where, before, after, f"{path}[{number}]")
    elif old != new:
        yield Change(where, path, _text(old), _text(new))


def _text(value: object) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[7:19] if text.startswith("sha256:") else text


def _name(entry: Descriptor) -> str:
    platform = "attestation" if entry.is_attestation else entry.platform.platform if entry.platform else "?"
    return f"{platform} {entry.digest[7:19]}"
