"""`polyarch accelerate`: which tools have native twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, Platforms, TlsVerify, finish, platforms, print_json, say, store, table

if TYPE_CHECKING:
    from polyarch.arch import Platform
    from polyarch.emulation.twins.pair import Coverage
    from polyarch.facts.model import Facts

app = typer.Typer(name="accelerate", help="Native twins of tools in emulated builds.", no_args_is_help=True)


@app.callback()
def accelerate() -> None:
    """Native twins of tools in emulated builds."""


@app.command()
def status(
    base: Annotated[str, typer.Argument(help="An image, as a FROM names it.")],
    platform: Platforms = None,
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Show which tools of a base run natively when a foreign platform is built on it, and why others do not."""
    from polyarch.facts.gather import gather

    facts = gather()
    found = {wanted: finish(_coverage(base, wanted, facts, tls_verify)) for wanted in platforms(platform)}
    if json:
        print_json({str(wanted): _as_dict(coverage) for wanted, coverage in found.items()})
        return
    rows = [
        (str(wanted), f"/{tool.path}", tool.package, why)
        for wanted, coverage in found.items()
        for tool, why in [*((twin.tool, "native") for twin in coverage.twins), *coverage.missing]
    ]
    table(("PLATFORM", "TOOL", "PACKAGE", "RUNS"), rows)
    for wanted, coverage in found.items():
        say(f"{wanted}: {len(coverage.twins)} tools run natively, {len(coverage.missing)} have no twin")


async def _coverage(base: str, platform: Platform, facts: Facts, tls_verify: bool) -> Coverage:
    """What a build on this base would accelerate."""
    from polyarch.base import resolve
    from polyarch.build.accelerate import coverage
    from polyarch.errors import InputError

    layout = store()
    answer = (await resolve.answers(layout, [base], tls_verify=tls_verify))[base]
    if answer.problem:
        raise InputError(answer.problem, hint=answer.hint)
    return await coverage(answer, platform, facts, layout, tls_verify=tls_verify)


def _as_dict(coverage: Coverage) -> dict[str, object]:
    native = [{"path": f"/{t.tool.path}", "package": t.tool.package, "build_id": t.build_id} for t in coverage.twins]
    missing = [{"path": f"/{tool.path}", "package": tool.package, "why": why} for tool, why in coverage.missing]
    return {"native": native, "missing": missing}
