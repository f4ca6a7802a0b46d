"""`polyarch inspect`: what an image consists of, without reading its layers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, TlsVerify, print_json, store, table
from polyarch.errors import InputError
from polyarch.report import printable

if TYPE_CHECKING:
    from polyarch.oci.inspect import Entry, Inspection


def inspect(
    reference: Annotated[str, typer.Argument(metavar="REF", help="docker://, oci:DIR, … or a name in the store.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the top document, byte for byte.")] = False,
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Show platforms, sizes, shared layers, base image, annotations and attestations of an image."""
    from dataclasses import asdict

    from polyarch.oci.inspect import inspect as look
    from polyarch.oci.inspect import tagged
    from polyarch.registry.find import open_image

    if raw and json:
        raise InputError("--raw and --json exclude each other", hint="the raw document is JSON already")
    layout = store()
    with open_image(layout, reference, tls_verify=tls_verify) as source:
        if raw:
            sys.stdout.buffer.write(source.top().raw)
            return
        found = look(source, tagged(layout))
    if json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: Inspection) -> None:
    images, others = found.of("image", "unreadable"), found.of("attestation", "artifact")
    for line in (found.name, found.digest, f"{found.media_type}, {_size(found.size)} of layers"):
        print(printable(line))
    _annotations("", found.annotations)
    print()
    rows = [(e.platform or "?", e.digest[7:19], str(len(e.layers)), _size(e.size), e.created, _base(e)) for e in images]
    table(("PLATFORM", "DIGEST", "LAYERS", "SIZE", "CREATED", "BASE"), rows)
    for entry in images:
        _annotations(entry.platform, entry.annotations)
    _layers(images)
    if others:
        platforms = {entry.digest: entry.platform for entry in images}
        print()
        beside = [(e.kind, e.digest[7:19], platforms.get(e.of, e.of[7:19]), ", ".join(e.predicates)) for e in others]
        table(("BESIDE IMAGES", "DIGEST", "OF", "STATES"), beside)


def _layers(images: Sequence[Entry]) -> None:
    """Each layer once, with the platforms that have it."""
    layers = {layer.digest: layer for entry in images for layer in entry.layers}
    if not layers:
        return
    print()
    rows = [
        (
            layer.digest[7:19],
            _size(layer.size),
            layer.media_type.rpartition(".")[2],
            f"all {len(images)}" if len(layer.platforms) == len(images) > 1 else ", ".join(layer.platforms),
        )
        for layer in layers.values()
    ]
    table(("LAYER", "SIZE", "TYPE", "PLATFORMS"), rows)


def _annotations(platform: str, annotations: dict[str, str]) -> None:
    for key, value in annotations.items():
        print(printable(f"  {platform + ': ' if platform else ''}{key}={value}"))


def _base(entry: Entry) -> str:
    if entry.problem:
        return f"unreadable: {entry.problem}"
    if entry.base is None:
        return ""
    name = entry.base.name.removeprefix("docker.io/library/") or entry.base.digest[7:19]
    return name if entry.base.known_by == "annotation" else f"{name} (by its layers)"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
