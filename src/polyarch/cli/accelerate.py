"""`polyarch accelerate`: which tools have native twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, Platforms, TlsVerify, finish, platforms, print_json, say, sink, store, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyarch.arch import Platform
    from polyarch.build.prove import Proof
    from polyarch.emulation.twins.pair import Coverage, Twin
    from polyarch.facts.model import Facts
    from polyarch.report import Sink

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
        for tool, why in [*((twin.tool, _told(twin)) for twin in coverage.twins), *coverage.missing]
    ]
    table(("PLATFORM", "TOOL", "PACKAGE", "RUNS"), rows)
    for wanted, coverage in found.items():
        say(f"{wanted}: {len(coverage.twins)} tools run natively, {len(coverage.missing)} have no twin")


@app.command()
def prove(
    base: Annotated[str, typer.Argument(help="An image, as a FROM names it.")],
    tools: Annotated[
        list[str] | None, typer.Argument(metavar="[TOOL…]", help="Names of tools; all by default.")
    ] = None,
    platform: Platforms = None,
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Give twins and originals the same inputs, compare what they answer, and keep the signed result (exit 3)."""
    from polyarch.errors import ProofError
    from polyarch.facts.gather import gather

    facts = gather()
    found = {
        wanted: finish(_prove(base, wanted, tools or [], facts, tls_verify, sink(json)))
        for wanted in platforms(platform)
    }
    rows = [
        (str(wanted), f"/{proof.twin.tool.path}", proof.commands, proof.differing)
        for wanted, proofs in found.items()
        for proof in proofs
    ]
    if json:
        print_json([dict(zip(("platform", "path", "commands", "differing"), row, strict=True)) for row in rows])
    else:
        table(("PLATFORM", "TOOL", "COMMANDS", "ANSWERS"), [(*r[:2], str(r[2]), r[3] or "alike") for r in rows])
    if wrong := [f"{row[0]} {row[1]}: {row[3]}" for row in rows if row[3]]:
        raise ProofError(
            f"{len(wrong)} twins answer otherwise than the originals",
            detail="\n".join(wrong),
            hint="they are emulated from now on",
        )


async def _prove(
    base: str, platform: Platform, tools: Sequence[str], facts: Facts, tls_verify: bool, show: Sink
) -> tuple[Proof, ...]:
    from polyarch.base import resolve
    from polyarch.build.prove import prove
    from polyarch.errors import InputError

    layout = store()
    answer = (await resolve.answers(layout, [base], tls_verify=tls_verify))[base]
    if answer.problem:
        raise InputError(answer.problem, hint=answer.hint)
    return await prove(answer, platform, tools, facts, layout, show)


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


def _told(twin: Twin) -> str:
    from polyarch.emulation.twins import proofs

    return "native" if proofs.find(twin) is None else "native, proved"


def _as_dict(coverage: Coverage) -> dict[str, object]:
    from polyarch.emulation.twins import proofs

    native = [
        {
            "path": f"/{twin.tool.path}",
            "package": twin.tool.package,
            "build_id": twin.build_id,
            "proved": proofs.find(twin) is not None,
        }
        for twin in coverage.twins
    ]
    missing = [{"path": f"/{tool.path}", "package": tool.package, "why": why} for tool, why in coverage.missing]
    return {"native": native, "missing": missing}
