"""`polyarch base`: base images out of a distribution's packages."""

from __future__ import annotations

from typing import Annotated

import typer

from polyarch.cli.common import Json, Platforms, finish, platforms, print_json, sink, store


def base(
    name: Annotated[str, typer.Argument(metavar="debian:SUITE", help="What to make, such as debian:trixie.")],
    platform: Platforms = None,
    tag: Annotated[list[str] | None, typer.Option("-t", "--tag", help="Names; debian:SUITE when left out.")] = None,
    include: Annotated[list[str] | None, typer.Option("--include", help="More packages, with commas.")] = None,
    mirror: Annotated[str, typer.Option("--mirror", help="The archive's address; mmdebstrap's own by default.")] = "",
    aptopt: Annotated[list[str] | None, typer.Option("--aptopt", help="An option of apt, kept in the image.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Make it anew.")] = False,
    accelerate: Annotated[
        bool, typer.Option("--accelerate/--no-accelerate", help="Run native twins of tools where emulation would.")
    ] = True,
    json: Json = False,
) -> None:
    """Make a base image for several platforms out of Debian's packages, for places without a registry."""
    from polyarch.base import debian
    from polyarch.base.make import make_base
    from polyarch.facts.gather import gather
    from polyarch.oci.reference import parse_reference

    packages = [package for text in include or [] for package in text.split(",") if package]
    wish = debian.parse_wish(name, packages, mirror, aptopt or [])
    names = [str(parse_reference(text)) for text in tag or [name]]
    wanted = platforms(platform)
    layout = store()
    show = sink(json)
    document = finish(make_base(layout, wish, wanted, gather(), show, no_cache=no_cache, accelerated=accelerate))
    layout.tag(document, names)
    if json:
        print_json({"names": names, "digest": document.digest, "platforms": [str(p) for p in wanted]})
    else:
        print(f"{', '.join(names)}\n{document.digest}")
