"""`polyarch toolchain`: what a native stage needs to compile for another platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polyarch.cli.common import Json, print_json

app = typer.Typer(
    name="toolchain",
    help="The cross toolchain that Dockerfiles take from the build context polyarch-toolchain.",
    no_args_is_help=True,
)


@app.command()
def show(
    platform: Annotated[str, typer.Argument(metavar="PLATFORM", help="The platform to compile for.")],
    what: Annotated[
        Literal["env", "cmake", "meson", "dockerfile"],
        typer.Option("--for", help="Variables, a CMake toolchain file, a Meson cross file, a stage of a Dockerfile."),
    ] = "env",
    json: Json = False,
) -> None:
    """Print what tells build tools of the platform."""
    from polyarch.arch import parse_platform
    from polyarch.toolchain import write as texts

    arch = texts.arch_of(parse_platform(platform))
    if json and what == "env":
        print_json(texts.environment(arch))
        return
    made = {
        "env": texts.env_file(arch),
        "cmake": texts.cmake_file(arch),
        "meson": texts.meson_file(arch),
        "dockerfile": texts.stage(),
    }[what]
    if json:
        print_json({"platform": str(arch.platform), "for": what, "text": made})
    else:
        print(made, end="")


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or a new folder.")],
    json: Json = False,
) -> None:
    """Write the build context for other builders: `docker buildx build --build-context polyarch-toolchain=DIR`."""
    from polyarch.toolchain import context

    context.write(folder)
    if json:
        print_json({"context": context.NAME, "folder": str(folder)})
    else:
        print(f"--build-context {context.NAME}={folder}")
