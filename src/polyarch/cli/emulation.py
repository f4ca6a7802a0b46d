"""`polyarch emulation`: handlers in the host's binfmt_misc table, for those who want them there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, print_json, table

if TYPE_CHECKING:
    from polyarch.arch import Platform
    from polyarch.emulation.binfmt import Changes

app = typer.Typer(
    name="emulation", help="Show and change the handlers in this host's binfmt_misc.", no_args_is_help=True
)
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[PLATFORM]...", help="All that are possible when left out.")
]


@app.command()
def status(names: Names = None, json: Json = False) -> None:
    """Show which handler of the host serves each platform."""
    from polyarch.emulation import binfmt

    found = {platform: binfmt.serving(binfmt.status(), platform) for platform in _wanted(names)}
    if json:
        print_json(
            {
                str(platform): [{"name": h.name, "interpreter": str(h.interpreter), "flags": h.flags} for h in handlers]
                for platform, handlers in found.items()
            }
        )
        return
    rows = [
        (str(platform), h.name if h else "-", h.flags if h else "-", str(h.interpreter) if h else "-")
        for platform, handlers in found.items()
        for h in (handlers[:1] or (None,))
    ]
    table(("PLATFORM", "HANDLER", "FLAGS", "INTERPRETER"), rows)


@app.command()
def install(
    names: Names = None,
    credentials: Annotated[
        bool,
        typer.Option("--credentials", help="Flag C: set-user-ID programs (sudo) work emulated; the risk is yours."),
    ] = False,
) -> None:
    """Register handlers in the host's table (root only); those of others are left alone."""
    from polyarch.emulation import binfmt, emulators

    wanted = _foreign(names)
    if not names:
        wanted = [platform for platform in wanted if emulators.locate(platform)]
    _tell(binfmt.install(wanted, credentials))


@app.command()
def remove(names: Names = None) -> None:
    """Remove exactly what `install` registered."""
    from polyarch.emulation import binfmt

    _tell(binfmt.remove(_foreign(names) if names else ()))


def _wanted(names: list[str] | None) -> list[Platform]:
    from polyarch.arch import ARCHES, parse_platforms

    return list(parse_platforms(names)) if names else list(ARCHES)


def _foreign(names: list[str] | None) -> list[Platform]:
    """The wanted platforms that this machine does not run natively: those would become emulated."""
    from polyarch.facts.gather import gather

    native = gather().native
    return [platform for platform in _wanted(names) if platform not in native]


def _tell(changes: Changes) -> None:
    for verb, what in (
        ("registered", changes.registered),
        ("removed", changes.removed),
        ("unchanged", changes.unchanged),
        ("served by others", changes.served_by_others),
    ):
        if what:
            print(f"{verb}: {', '.join(map(str, what))}")
    if not changes:
        print("nothing to change")
