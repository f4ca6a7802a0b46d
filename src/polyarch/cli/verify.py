"""`polyarch verify`: whether an image is what it says, in every layer and every file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyarch.cli.common import Json, Platforms, TlsVerify, print_json, sink, store, table
from polyarch.report import printable

if TYPE_CHECKING:
    from polyarch.verify.report import Report


def verify(
    reference: Annotated[str, typer.Argument(metavar="REF", help="docker://, oci:DIR, … or a name in the store.")],
    platform: Platforms = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="Glob of paths that may be foreign.")] = None,
    format: Annotated[Literal["text", "sarif", "junit"], typer.Option("--format", help="How to report.")] = "text",
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Read every byte of an image and list all that contradicts its labels; exit 3 when anything does."""
    from polyarch.arch import parse_platforms
    from polyarch.errors import InputError, ProofError
    from polyarch.registry.find import open_image
    from polyarch.verify.formats import junit, sarif
    from polyarch.verify.prove import verify as prove

    if json and format != "text":
        raise InputError(f"--json and --format {format} exclude each other", hint="leave one out")
    wanted = parse_platforms(platform or [])
    with open_image(store(), reference, tls_verify=tls_verify) as source:
        report = prove(source, wanted, allow or (), sink(json))
    if json:
        print_json(report.as_dict())
    elif format == "text":
        _show(report)
    else:
        print(sarif(report) if format == "sarif" else junit(report))
    if not report.ok:
        raise typer.Exit(ProofError.exit_code)


def _show(report: Report) -> None:
    rows = [
        (
            e.platform,
            e.digest[7:19],
            str(e.layers),
            f"{e.size / 1e6:.1f} MB",
            str(e.elves),
            _verdict(e.errors, e.warnings),
        )
        for e in report.entries
        if e.kind == "image"
    ]
    table(("PLATFORM", "DIGEST", "LAYERS", "SIZE", "ELF FILES", "PROOF"), rows)
    for violation in report.violations:
        if violation.severity != "info":
            where = " ".join(part for part in (violation.platform, violation.path) if part)
            said = f"{violation.code}: {where}{': ' if where else ''}{violation.message}"
            print(f"{violation.severity}: {printable(said)}")
            print(f"  hint: {violation.hint}")
    print(f"{printable(report.name)} {'is what it says' if report.ok else 'is NOT what it says'}")


def _verdict(errors: int, warnings: int) -> str:
    said = _count(errors, "error") if errors else "ok"
    return f"{said}, {_count(warnings, 'warning')}" if warnings else said


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
