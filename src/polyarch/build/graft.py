"""An image for another platform out of layers that hold nothing of one: no step runs, no emulator is needed.

The layers that a native build put above its base are proved (`verify.portable`), the bases of both platforms are
compared, and the very blobs are put onto the target's base. The promise that they were proved goes with the image.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polyarch import places
from polyarch.arch import Platform
from polyarch.errors import ProofError
from polyarch.oci.layout import Layout
from polyarch.oci.made import labelled, media_types, store_image
from polyarch.oci.model import Descriptor, Manifest, document, parse_document
from polyarch.verify import packages
from polyarch.verify.gate import LayerFiles
from polyarch.verify.portable import Trace, traces
from polyarch.verify.promise import ANNOTATION, Promise, promised
from polyarch.verify.traces import word_in

_SHOWN = 10  # files that a refusal names of each layer


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest of the layout with its config as plain JSON, as it was written."""

    digest: str
    manifest: Manifest
    config: Mapping[str, Any]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the uncompressed layers, lowest first."""
        return list(self.config.get("rootfs", {}).get("diff_ids", ()))

    @property
    def run(self) -> dict[str, Any]:
        """The part of the config that says how the image is run."""
        return dict(self.config.get("config") or {})

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry for each step, those without a layer too."""
        return list(self.config.get("history") or ())


_NOTHING = Stored("", Manifest(schema_version=2, config=Descriptor(media_type="", digest="", size=0), layers=()), {})


@dataclass(frozen=True, slots=True)
class Grafted:
    """A grafted image and what is worth telling of it."""

    descriptor: Descriptor
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """An image of the first layers, up to one that is bound: it has what `done` first instructions make."""

    descriptor: Descriptor
    done: int


class RefusedError(ProofError):
    """A graft that cannot be; `free` layers above the base are not bound, and the bases are the same release."""

    def __init__(self, message: str, detail: str, free: int) -> None:
        hint = "take what is native out of these layers, or build the platform itself: --strategy emulate"
        super().__init__(message, detail=detail, hint=hint)
        self.free = free


@dataclass
class Grafter:
    """Grafts of one build; what several platforms share is proved once."""

    layout: Layout
    docker_format: bool
    _proved: dict[str, tuple[Trace, ...]] = field(default_factory=dict)
    _releases: dict[str, packages.Release] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def graft(self, native: Descriptor, bases: tuple[str, str], platform: Platform) -> Grafted:
        """Put the layers of `native` (on the first of `bases`) onto the second one, for `platform`.

        `bases` are digests of manifests, "" for scratch. Raises `ProofError` that lists what speaks against it.
        """
        async with self._lock:
            return await asyncio.to_thread(self._graft, native.digest, bases, platform)

    def _graft(self, native: str, bases: tuple[str, str], platform: Platform) -> Grafted:
        image, below, base = (load(self.layout, digest) for digest in (native, *bases))
        problems, notes = self._compare(below, base)
        refusals = [*_standing(image, below), *(f"the bases are not the same release: {one}" for one in problems)]
        free = 0 if refusals else self._free(image, below)
        refusals += [*_settings(image, below), *self._layers(image, below)]
        if refusals:
            message = f"{platform}: the layers of {_platform_of(image)} cannot be taken over: {_first(refusals)}"
            raise RefusedError(message, "\n".join(refusals), free)
        return Grafted(self._write(image, below, base, platform), notes)

    async def prefix(
        self, native: Descriptor, bases: tuple[str, str], platform: Platform, free: int, steps: int
    ) -> Prefix | None:
        """An image of the first `free` layers above the base, as far as the base's own settings go.

        `steps` is the number of instructions that made the image; None when its history tells other ones apart.
        """
        image, below, base = (load(self.layout, digest) for digest in (native.digest, *bases))
        own = image.history[len(below.history) :]
        made = [number for number, entry in enumerate(own) if not entry.get("empty_layer")]
        if not free or len(own) != steps or len(made) != len(image.diff_ids) - len(below.diff_ids):
            return None
        cut = Stored(image.digest, image.manifest, dict(image.config) | {"config": dict(below.run)})
        async with self._lock:
            descriptor = await asyncio.to_thread(self._write, cut, below, base, platform, free)
        return Prefix(descriptor, made[free])

    def _free(self, image: Stored, below: Stored) -> int:
        """How many layers above the base come before the first that is bound."""
        own = image.manifest.layers[len(below.diff_ids) :]
        return next((number for number, layer in enumerate(own) if self._proof(layer.digest)), len(own))

    def _layers(self, image: Stored, below: Stored) -> list[str]:
        """What speaks against each layer above the base."""
        names = made_by(image, below)
        found = []
        for number, layer in enumerate(image.manifest.layers[len(below.diff_ids) :]):
            against = self._proof(layer.digest)
            where = f"layer {number + 1}{f' ({names[number]})' if number < len(names) else ''}"
            found += [f"{where}: /{trace.path}: {trace.what}" for trace in against[:_SHOWN]]
            if len(against) > _SHOWN:
                found.append(f"{where}: and {len(against) - _SHOWN} more")
        return found

    def _proof(self, digest: str) -> tuple[Trace, ...]:
        if digest not in self._proved:
            with self.layout.chunks(digest) as chunks:
                self._proved[digest] = traces(chunks)
        return self._proved[digest]

    def _compare(self, below: Stored, base: Stored) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not below.digest and not base.digest:
            return (), ()
        return packages.compare(self._release(below), self._release(base))

    def _release(self, base: Stored) -> packages.Release:
        if base.digest not in self._releases:
            self._releases[base.digest] = packages.release(
                [self._texts(layer.digest) for layer in base.manifest.layers]
            )
        return self._releases[base.digest]

    def _texts(self, digest: str) -> dict[str, str]:
        """What a layer says of packages: bases are large and used often, so it is kept by the layer's digest."""
        kept = LayerFiles(places.cache() / "packages")
        text = kept.get(digest)
        if text is None:
            with self.layout.chunks(digest) as chunks:
                text = packages.dump(packages.texts_of(chunks))
            kept.put(digest, text)
        return packages.load(text)

    def _write(
        self, image: Stored, below: Stored, base: Stored, platform: Platform, count: int | None = None
    ) -> Descriptor:
        """The image with all layers above its base, or the first `count` of them, on the target's base."""
        kept = None if count is None else len(below.diff_ids) + count
        image = image if kept is None else _cut(image, kept)
        own = image.manifest.layers[len(below.diff_ids) :]
        raw = json.dumps(_config(image, below, base, platform), sort_keys=True, separators=(",", ":")).encode()
        promise = Promise(image.digest, (below.digest, base.digest), tuple(layer.digest for layer in own))
        types, annotations = media_types(self.docker_format), {ANNOTATION: promise.to_json()}
        return store_image(self.layout, platform, raw, (*base.manifest.layers, *own), types, annotations)


def _cut(image: Stored, kept: int) -> Stored:
    """The image of the first `kept` layers, with the steps that made them."""
    history: list[dict[str, Any]] = []
    layers = 0
    for entry in image.history:
        layers += not entry.get("empty_layer")
        if layers > kept:
            break
        history.append(entry)
    rootfs = {"type": "layers", "diff_ids": image.diff_ids[:kept]}
    manifest = image.manifest.model_copy(update={"layers": image.manifest.layers[:kept]})
    return Stored(image.digest, manifest, dict(image.config) | {"rootfs": rootfs, "history": history})


def load(layout: Layout, digest: str) -> Stored:
    """A manifest of the layout; "" is the empty image. Raises `ProofError` for an index."""
    if not digest:
        return _NOTHING
    value = parse_document(layout.read(digest), "", digest).value
    if not isinstance(value, Manifest):
        raise ProofError(f"{digest} is an index, not one platform's image")
    return Stored(digest, value, json.loads(layout.read(value.config.digest)))


def hand_on(layout: Layout, descriptor: Descriptor, source: str) -> Descriptor:
    """The image with the promise that the manifest `source` carries: its layers were built upon."""
    promise = {ANNOTATION: promised(load(layout, source).manifest)}
    manifest = load(layout, descriptor.digest).manifest.model_copy(update={"annotations": promise})
    stored = layout.store(document(manifest))
    return stored.model_copy(update={"platform": descriptor.platform})


def made_by(image: Stored, below: Stored) -> list[str]:
    """The steps that made the layers above the base, in order; empty when the history does not fit the layers."""
    steps = [entry for entry in image.history[len(below.history) :] if not entry.get("empty_layer")]
    if len(steps) != len(image.diff_ids) - len(below.diff_ids):
        return []
    texts = [" ".join(str(entry.get("created_by", "")).split()) for entry in steps]
    return [text.removeprefix("/bin/sh -c #(nop) ").replace("/bin/sh -c ", "RUN ")[:80] for text in texts]


def _standing(image: Stored, below: Stored) -> list[str]:
    if image.diff_ids[: len(below.diff_ids)] == below.diff_ids:
        return []
    return ["the image does not stand on its base's layers"]


def _settings(image: Stored, below: Stored) -> list[str]:
    """What of the config the build set, and states an architecture."""
    found = []
    for key, value in image.run.items():
        for name, text in _entries(value).items():
            if text != _entries(below.run.get(key)).get(name) and (word := word_in(f"{name} {text}")):
                found.append(f"config: {key} {name}{f'={text}' if text else ''}: it states an architecture: {word}")
    return found


def _entries(value: object) -> dict[str, str]:
    """A setting as names and values: `Env` by variable, labels by key, all else as one text."""
    if isinstance(value, dict):
        return {str(name): json.dumps(entry) if entry else "" for name, entry in value.items()}
    if isinstance(value, list) and all(isinstance(entry, str) and "=" in entry for entry in value):
        return dict(entry.split("=", 1) for entry in value)
    return {} if value is None else {"": json.dumps(value)}


def _config(image: Stored, below: Stored, base: Stored, platform: Platform) -> dict[str, Any]:
    """The native config with what came from its base exchanged for what the target's base says."""
    run = {key: value for key, value in image.run.items() if value != below.run.get(key)}
    run = {key: value for key, value in base.run.items() if key in image.run and key not in run} | run
    variables = _merged(*(_entries(stored.run.get("Env")) for stored in (image, below, base)))
    run |= {"Env": [f"{name}={value}" for name, value in variables.items()]} if variables else {}
    labels = _merged(*(stored.run.get("Labels") or {} for stored in (image, below, base)))
    run |= {"Labels": labels} if labels else {}
    config = dict(image.config) | {
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": base.diff_ids + image.diff_ids[len(below.diff_ids) :]},
        "history": _history(image, below, base),
    }
    if not config["history"]:
        del config["history"]
    return labelled(config, platform)


def _merged(image: Mapping[str, str], below: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """What the build set, over what the target's base says; what the build left as in its own base is the base's."""
    own = {name: value for name, value in image.items() if below.get(name) != value}
    removed = below.keys() - image.keys()
    return {name: value for name, value in base.items() if name not in removed} | own


def _history(image: Stored, below: Stored, base: Stored) -> list[dict[str, Any]]:
    """The base's steps and then the build's; none at all when they would not fit the layers."""
    steps = [*base.history, *image.history[len(below.history) :]]
    layers = len(base.diff_ids) + len(image.diff_ids) - len(below.diff_ids)
    return steps if sum(not entry.get("empty_layer") for entry in steps) == layers else []


def _platform_of(image: Stored) -> str:
    return f"{image.config.get('os')}/{image.config.get('architecture')}"


def _first(refusals: Sequence[str]) -> str:
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return f"{refusals[0]}{more}"
