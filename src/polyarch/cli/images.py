"""`polyarch images`, `push`, `pull`, `rmi` and `prune`: the store, and between it and registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyarch.cli.common import Json, Platforms, TlsVerify, finish, print_json, sink, store, table
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.arch import Platform
    from polyarch.oci.layout import Layout
    from polyarch.oci.model import Descriptor, Document


def images(json: Json = False) -> None:
    """List the images of polyarch's store."""
    from polyarch.oci.reference import parse_reference

    layout = store()
    found = [_row(layout, name, entry) for name, entry in sorted(layout.names().items())]
    if json:
        print_json(found)
    else:
        rows = [
            (parse_reference(row["name"]).familiar, row["digest"][7:19], row["damage"] or ",".join(row["platforms"]))
            for row in found
        ]
        table(("NAME", "DIGEST", "PLATFORMS"), rows)


def rmi(
    names: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images of the store, by name.")],
    json: Json = False,
) -> None:
    """Remove names from the store; `prune` then frees what no other name needs."""
    from polyarch.oci.reference import parse_reference

    layout = store()
    known = layout.names()
    wanted = [str(parse_reference(name)) for name in names]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(f"no image {', '.join(missing)} in the store", hint="polyarch images lists them")
    layout.rename(dict.fromkeys(wanted))
    if json:
        print_json(wanted)
    else:
        print("\n".join(wanted))


def prune(
    build_cache: Annotated[
        bool, typer.Option("--build-cache", help="The steps that buildah keeps, too: the next build does all anew.")
    ] = False,
    json: Json = False,
) -> None:
    """Free what no name of the store needs: blobs, records of builds, half-done downloads."""
    from polyarch import places
    from polyarch.build.storage import remove_storage, store_alone
    from polyarch.oci.layout import Layout
    from polyarch.oci.prune import prune as remove

    with store_alone():
        layout = Layout(places.store())
        layout.clear_staging()
        done = remove(layout, (places.records(), places.bases()))
        if build_cache:
            remove_storage()
    if json:
        print_json({"blobs": done.blobs, "bytes": done.size})
    else:
        print(f"removed {done.blobs} blobs, {done.size / 1e6:,.1f} MB")


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
    from polyarch.oci.prune import drop_damaged
    from polyarch.oci.reference import parse_reference
    from polyarch.registry.client import Registry
    from polyarch.registry.pull import pull as fetch

    reference = parse_reference(name)
    if (before := layout.names().get(str(reference))) is not None:
        drop_damaged(layout, before)
    async with Registry(reference.registry, tls_verify=tls_verify) as client:
        image = await fetch(client, layout, reference, platforms=platforms or None)
    if not platforms or layout.whole(image.digest):
        layout.tag(image, [str(reference)])
    return image


def _row(layout: Layout, name: str, entry: Descriptor) -> dict[str, Any]:
    """One line of `images`; a damaged image is listed, too, or nobody could remove it."""
    from polyarch.oci.layout import platforms_of

    row = {"name": name, "digest": entry.digest, "platforms": [], "damage": ""}
    try:
        return row | {"platforms": [str(p) for p in platforms_of(layout, layout.document(entry))]}
    except InputError as error:
        return row | {"damage": f"damaged: {error.message}"}


def _tell(name: str, image: Document, json: bool) -> None:
    if json:
        print_json({"name": name, "digest": image.digest})
    else:
        print(image.digest)
