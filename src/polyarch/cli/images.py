"""`polyarch images`, `push` and `pull`: between the store and registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, Platforms, TlsVerify, finish, print_json, sink, store, table
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.arch import Platform
    from polyarch.oci.layout import Layout
    from polyarch.oci.model import Document


def images(json: Json = False) -> None:
    """List the images of polyarch's store."""
    from polyarch.oci.layout import platforms_of
    from polyarch.oci.reference import parse_reference

    layout = store()
    found = [
        (parse_reference(name), entry.digest, list(platforms_of(layout, layout.document(entry))))
        for name, entry in sorted(layout.names().items())
    ]
    if json:
        print_json(
            [
                {"name": str(name), "digest": digest, "platforms": [str(p) for p in offered]}
                for name, digest, offered in found
            ]
        )
    else:
        rows = [(name.familiar, digest[7:19], ",".join(map(str, offered))) for name, digest, offered in found]
        table(("NAME", "DIGEST", "PLATFORMS"), rows)


def push(
    tag: Annotated[str, typer.Argument(metavar="TAG", help="An image of the store.")],
    destination: Annotated[str, typer.Argument(metavar="[DEST]", help="Where to; the tag itself by default.")] = "",
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Push an image: proved first, blobs before manifests, the index last, confirmed by digest."""
    from polyarch.oci.reference import parse_reference
    from polyarch.registry.find import find_local
    from polyarch.registry.ship import ship
    from polyarch.verify.gate import prove

    layout = store()
    image = find_local(layout, tag.removeprefix("docker://"))
    if image is None:
        raise InputError(f"no image {tag} in the store", hint="polyarch images lists them; polyarch build makes one")
    reference = parse_reference((destination or tag).removeprefix("docker://"))
    if reference.digest:
        raise InputError(f"{reference} names a digest", hint="push to a tag; the digest follows from the content")
    show = sink(json)
    prove(layout, image, str(reference), show)  # outside of the event loop, where Ctrl-C ends it at once
    finish(ship(layout, image, reference, show, tls_verify=tls_verify))
    _tell(str(reference), image, json)


def pull(
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="[HOST/]NAME[:TAG][@DIGEST] in a registry.")],
    platform: Platforms = None,
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Pull an image into the store: all of its platforms, or those asked for."""
    from polyarch.arch import parse_platforms

    layout = store()
    image = finish(_pull(layout, name.removeprefix("docker://"), parse_platforms(platform or []), tls_verify))
    _tell(name, image, json)


async def _pull(layout: Layout, name: str, platforms: tuple[Platform, ...], tls_verify: bool) -> Document:
    from polyarch.oci.reference import parse_reference
    from polyarch.registry.client import Registry
    from polyarch.registry.pull import pull as fetch

    reference = parse_reference(name)
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        image = await fetch(client, layout, reference, platforms=platforms or None)
    if not platforms or layout.whole(image.digest):
        layout.tag(image, [str(reference)])
    return image


def _tell(name: str, image: Document, json: bool) -> None:
    if json:
        print_json({"name": name, "digest": image.digest})
    else:
        print(image.digest)
