"""What `plan` and `build` are both asked: the options, and the request that they make."""

from __future__ import annotations

import atexit
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import pairs, platforms
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.build.model import Request
    from polyarch.plan.planner import Wishes

Context = Annotated[Path, typer.Argument(metavar="CONTEXT", help="The build context, a folder.")]
File = Annotated[Path | None, typer.Option("-f", "--file", help="The Dockerfile; CONTEXT/Dockerfile by default.")]
BuildArgs = Annotated[list[str] | None, typer.Option("--build-arg", help="NAME=VALUE of an ARG.")]
Contexts = Annotated[
    list[str] | None,
    typer.Option("--build-context", help="NAME=DIR, for COPY --from=NAME; repeatable."),
]
Target = Annotated[str, typer.Option("--target", help="The stage to build; the last by default.")]
Strategies = Annotated[
    list[str] | None,
    typer.Option("--strategy", help="native, graft, cross, node or emulate; PLATFORM=WAY for one. Repeatable."),
]


def read(
    context: Path,
    file: Path | None,
    platform: Sequence[str] | None,
    build_arg: Sequence[str] | None,
    target: str,
    build_context: Sequence[str] | None,
    strategy: Sequence[str] | None,
    *,
    tls_verify: bool,
) -> Request:
    """The request that these options make. Raises `InputError` for a value that means nothing."""
    from polyarch.build.model import Request

    asked, wishes = platforms(platform), _wishes(strategy)
    if strange := [str(one) for one in wishes.single if one not in asked]:
        raise InputError(f"--strategy for {', '.join(strange)}, which --platform does not ask for")
    return Request(
        context=context,
        dockerfile=_dockerfile(context, file),
        platforms=asked,
        build_args=pairs("--build-arg", build_arg or []),
        target=target,
        contexts=tuple(_context(text) for text in build_context or ()),
        tls_verify=tls_verify,
        wishes=wishes,
    )


def _context(text: str) -> tuple[str, Path]:
    """`NAME=DIR`, the folder made absolute. Raises `InputError`."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise InputError(f"--build-context wants NAME=DIR, not {text!r}")
    if "://" in value or not Path(value).is_dir():
        hint = "an image is named in the Dockerfile itself: COPY --from=IMAGE" if "://" in value else ""
        raise InputError(f"--build-context {name}: there is no folder {value}", hint=hint)
    return name, Path(value).absolute()


def _dockerfile(context: Path, file: Path | None) -> Path:
    """`-f`, with `-` a copy of standard input that goes when the process ends, else what podman takes.

    That is CONTEXT/Dockerfile, or CONTEXT/Containerfile where only that exists.
    """
    if file is not None and str(file) != "-":
        return file
    if file is not None:
        kept = tempfile.NamedTemporaryFile(prefix="Dockerfile.", delete=False)  # noqa: SIM115  # lives on until exit
        atexit.register(Path(kept.name).unlink, missing_ok=True)
        with kept:
            kept.write(sys.stdin.buffer.read())
        return Path(kept.name)
    names = ("Dockerfile", "Containerfile")
    return next((context / name for name in names if (context / name).is_file()), context / "Dockerfile")


def _wishes(values: Sequence[str] | None) -> Wishes:
    """`--strategy WAY` for all platforms, `PLATFORM=WAY` for one. Raises `InputError` for a way that is unknown."""
    from polyarch.arch import parse_platform
    from polyarch.plan.model import Strategy
    from polyarch.plan.planner import Wishes

    everywhere, single = None, {}
    for value in values or []:
        platform, equals, way = value.rpartition("=")
        if equals and not platform.strip():
            raise InputError(f"--strategy {value}: no platform before the =", hint="PLATFORM=WAY, or WAY for all")
        try:
            strategy = Strategy(way.strip().lower())
        except ValueError as error:
            known = ", ".join(Strategy)
            raise InputError(f"--strategy {value}: no way is called {way!r}", hint=f"{known}") from error
        if platform:
            single[parse_platform(platform)] = strategy
        else:
            everywhere = strategy
    return Wishes(everywhere, single)
