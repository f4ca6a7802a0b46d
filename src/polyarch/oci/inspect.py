"""What an image says of itself, read from its documents alone: no layer is opened.

Sources: OCI image-spec `annotations.md` (base image annotations), BuildKit `attestation-storage.md` (predicate types).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Document, ImageConfig, Index, Manifest, parse_config
from polyarch.oci.source import Source

BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
PREDICATE: Final = "in-toto.io/predicate-type"
_DEEPEST: Final = 4
_MOST: Final = 1000  # documents of one index


@dataclass(frozen=True, slots=True)
class Base:
    """The image that another was made from, and how that is known; "" for what is not said."""

    name: str
    digest: str
    known_by: Literal["annotation", "layers"]


@dataclass(frozen=True, slots=True)
class Tagged:
    """One platform of an image that has a name, as a base that others may have."""

    name: str
    digest: str
    platform: Platform
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; `size` is in bytes, compressed. `platforms` are all entries of the image that have it."""

    digest: str
    media_type: str
    size: int
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest. `size` is that of its layers, compressed, in bytes; `problem` says why it cannot be read.

    `of` is the digest of the image that an attestation belongs to, `predicates` what it states.
    """

    kind: Literal["image", "attestation", "artifact", "unreadable"]
    platform: str
    digest: str
    media_type: str
    size: int = 0
    layers: tuple[Layer, ...] = ()
    base: Base | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    created: str = ""
    of: str = ""
    predicates: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A whole image: `digest` and `media_type` are those of the top document, `size` counts each layer once."""

    name: str
    digest: str
    media_type: str
    annotations: dict[str, str]
    size: int
    entries: tuple[Entry, ...]

    def of(self, *kinds: str) -> tuple[Entry, ...]:
        """The entries of these kinds."""
        return tuple(entry for entry in self.entries if entry.kind in kinds)


def inspect(source: Source, bases: Sequence[Tagged] = ()) -> Inspection:
    """Read the documents of an image; `bases` are images that it may have been made from.

    Raises `InputError` when there is no image; what an index names and cannot be read becomes an entry with a
    `problem`.
    """
    top = source.top()
    entries = list(_entries(source, top, top.descriptor, bases, 0))
    platforms: dict[str, list[str]] = {}
    for entry in entries:
        for layer in entry.layers if entry.kind == "image" else ():
            platforms.setdefault(layer.digest, []).append(entry.platform)
    entries = [replace(entry, layers=tuple(_shared(layer, platforms) for layer in entry.layers)) for entry in entries]
    sizes = {layer.digest: layer.size for entry in entries for layer in entry.layers}
    annotations = dict(top.value.annotations or {})
    return Inspection(source.name, top.digest, top.media_type, annotations, sum(sizes.values()), tuple(entries))


def _shared(layer: Layer, platforms: dict[str, list[str]]) -> Layer:
    return replace(layer, platforms=tuple(dict.fromkeys(platforms.get(layer.digest, ()))))


def tagged(layout: Layout) -> tuple[Tagged, ...]:
    """Every platform of every named image of a layout; what cannot be read there is passed over."""
    return tuple(each for name, entry in layout.names().items() for each in _platforms(layout, name, entry))


def _platforms(layout: Layout, name: str, descriptor: Descriptor) -> Iterator[Tagged]:
    try:
        value = layout.document(descriptor).value
        if isinstance(value, Index):
            for entry in value.images():
                yield from _platforms(layout, name, entry)
            return
        config = parse_config(layout.read(value.config.digest), name)
    except InputError:
        return
    yield Tagged(name, descriptor.digest, config.platform, config.rootfs.diff_ids)


def _entries(
    source: Source, document: Document, descriptor: Descriptor, bases: Sequence[Tagged], depth: int
) -> Iterator[Entry]:
    value = document.value
    if isinstance(value, Manifest):
        yield _manifest(source, value, descriptor, bases)
        return
    for entry in value.manifests[:_MOST]:
        try:
            if depth >= _DEEPEST:
                raise InputError(f"indexes nested more than {_DEEPEST} deep")
            yield from _entries(source, source.document(entry), entry, bases, depth + 1)
        except (InputError, OSError) as error:
            yield Entry(
                "unreadable", _stated(entry), entry.digest, entry.media_type,
                problem=getattr(error, "message", str(error)),
            )  # fmt: skip


def _manifest(source: Source, manifest: Manifest, descriptor: Descriptor, bases: Sequence[Tagged]) -> Entry:
    annotations = {**(manifest.annotations or {}), **(descriptor.annotations or {})}
    layers = tuple(Layer(layer.digest, layer.media_type, layer.size) for layer in manifest.layers)
    size = sum(layer.size for layer in layers)
    entry = Entry(
        "artifact", _stated(descriptor), descriptor.digest, descriptor.media_type, size, layers, annotations=annotations
    )
    if descriptor.is_attestation:
        stated = ((layer.annotations or {}).get(PREDICATE, "") for layer in manifest.layers)
        predicates = tuple(dict.fromkeys(kind for kind in stated if kind))
        return replace(entry, kind="attestation", of=annotations.get(REFERENCE_DIGEST, ""), predicates=predicates)
    if manifest.artifact_type or descriptor.artifact_type:
        return entry
    config = parse_config(source.fetch(manifest.config), f"config {manifest.config.digest}")
    labels = (config.config.labels if config.config else None) or {}
    created = (config.model_extra or {}).get("created")
    return replace(
        entry, kind="image", platform=entry.platform or str(config.platform),
        base=_stated_base({**labels, **annotations}) or _recognised(config, bases),
        created=created if isinstance(created, str) else "",
    )  # fmt: skip


def _stated_base(annotations: dict[str, str]) -> Base | None:
    name, digest = annotations.get(BASE_NAME, ""), annotations.get(BASE_DIGEST, "")
    return Base(name, digest, "annotation") if name or digest else None


def _recognised(config: ImageConfig, bases: Iterable[Tagged]) -> Base | None:
    """The named image whose layers are the most of the lowest ones of this image, which has more."""
    own = config.rootfs.diff_ids
    fitting = [
        base
        for base in bases
        if base.platform == config.platform
        and 0 < len(base.diff_ids) < len(own)
        and own[: len(base.diff_ids)] == base.diff_ids
    ]
    best = max(fitting, key=lambda base: len(base.diff_ids), default=None)
    return Base(best.name, best.digest, "layers") if best else None


def _stated(descriptor: Descriptor) -> str:
    return str(descriptor.platform.platform) if descriptor.platform else ""
