"""`polyarch run`: any platform of an image, here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polyarch.cli.common import TlsVerify, finish, pairs, platforms, store
from polyarch.errors import InputError


def run(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A tag or a digest of polyarch's store, or a name.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD]...", help="Instead of the image's.")] = None,
    platform: Annotated[str, typer.Option("--platform", help="The platform to run; this machine's by default.")] = "",
    env: Annotated[list[str] | None, typer.Option("-e", "--env", help="NAME=VALUE, repeatable.")] = None,
    volume: Annotated[list[str] | None, typer.Option("-v", "--volume", help="HOST:CONTAINER[:ro], repeatable.")] = None,
    entrypoint: Annotated[str | None, typer.Option("--entrypoint", help="Instead of the image's.")] = None,
    user: Annotated[str, typer.Option("-u", "--user", help="Instead of the image's.")] = "",
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Instead of the image's.")] = "",
    tls_verify: TlsVerify = True,
) -> None:
    """Run one platform of an image on this machine, emulated where needed; its exit code is ours."""
    from polyarch.deploy.local import Wish, run_here
    from polyarch.facts.gather import gather
    from polyarch.registry.find import find_image

    asked = platforms([platform] if platform else None)
    if len(asked) > 1:
        raise InputError(f"--platform {platform}: a container has one platform", hint="run each on its own")
    wish = Wish(
        platform=asked[0],
        command=tuple(command or []),
        env=pairs("--env", env or []),
        volumes=tuple(volume or []),
        entrypoint=entrypoint,
        user=user,
        workdir=workdir,
    )
    layout = store()
    document = finish(find_image(layout, image, [wish.platform], tls_verify=tls_verify))
    sys.exit(run_here(layout, document, image, wish, gather()))
