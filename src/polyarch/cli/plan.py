"""`polyarch plan`: which way each stage goes on each platform, before anything runs."""

from __future__ import annotations

import atexit
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyarch.cli.common import (
    Json,
    Platforms,
    Strategies,
    TlsVerify,
    finish,
    pairs,
    platforms,
    print_json,
    store,
    table,
    wishes,
)
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.plan.model import BuildPlan, PlatformPlan, StagePlan

Context = Annotated[Path, typer.Argument(metavar="CONTEXT", help="The build context, a folder.")]
File = Annotated[Path | None, typer.Option("-f", "--file", help="The Dockerfile; CONTEXT/Dockerfile by default.")]
BuildArgs = Annotated[list[str] | None, typer.Option("--build-arg", help="NAME=VALUE of an ARG.")]
Target = Annotated[str, typer.Option("--target", help="The stage to build; the last by default.")]


def plan(
    context: Context,
    file: File = None,
    platform: Platforms = None,
    build_arg: BuildArgs = None,
    target: Target = "",
    strategy: Strategies = None,
    why: Annotated[
        str, typer.Option("--why", metavar="PLATFORM:STAGE", help="All reasons for one stage, and against other ways.")
    ] = "",
    output: Annotated[
        Literal["table", "json", "mermaid", "dot"], typer.Option("-o", "--output", help="How the plan is printed.")
    ] = "table",
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Show how each stage would be built on each platform and why, and what would fail."""
    from polyarch.build.model import Request
    from polyarch.build.prepare import prepare, refuse
    from polyarch.facts.gather import gather

    request = Request(
        context=context,
        dockerfile=chosen_dockerfile(context, file),
        platforms=platforms(platform),
        build_args=pairs("--build-arg", build_arg or []),
        target=target,
        tls_verify=tls_verify,
        wishes=wishes(strategy),
    )
    prepared = finish(prepare(request, gather(), store()))
    _print(prepared.plan, why, "json" if json else output)
    refuse(prepared)


def chosen_dockerfile(context: Path, file: Path | None) -> Path:
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


def _print(found: BuildPlan, why: str, output: str) -> None:
    from polyarch.plan import picture
    from polyarch.plan.why import explained, reasons

    if why:
        plan, stage = _stage_of(found, why)
        if output == "json":
            print_json(reasons(plan, stage))
        else:
            print("\n".join(explained(plan, stage)))
    elif output == "json":
        print_json(found.as_dict())
    elif output == "table":
        _show(found)
    else:
        print(picture.mermaid(found) if output == "mermaid" else picture.dot(found))


def _stage_of(found: BuildPlan, text: str) -> tuple[PlatformPlan, StagePlan]:
    """What `PLATFORM:STAGE` means; PLATFORM alone is its target stage. Raises `InputError` with what there is."""
    from polyarch.arch import parse_platform

    name, _, label = text.partition(":")
    platform = parse_platform(name)
    for entry in found.platforms:
        stages = [s for s in entry.stages if label.lower() in {s.label, str(s.index)}] if label else entry.stages[-1:]
        if entry.platform == platform and stages:
            return entry, stages[-1]
    known = ", ".join(f"{entry.platform}:{stage.label}" for entry in found.platforms for stage in entry.stages)
    raise InputError(f"--why {text}: the plan has no such stage", hint=f"it has {known}")


def _show(found: BuildPlan) -> None:
    rows = [
        (
            str(entry.platform),
            stage.label,
            stage.base,
            _way(stage),
            _time(stage),
            _needs(stage),
            stage.reason,
        )
        for entry in found.platforms
        for stage in entry.stages
    ]
    table(("PLATFORM", "STAGE", "BASE", "STRATEGY", "TIME", "NEEDS", "WHY"), rows)
    for warning in dict.fromkeys(warning for entry in found.platforms for warning in entry.warnings):
        print(f"\nwarning: {found.dockerfile}:{warning.line}: {warning.message}\nhint: {warning.hint}")
    for pin in found.pinnable.pins:
        print(f"\nstage {pin.stage} in line {pin.line} need not be emulated ({pin.confidence}): {pin.reason}")
    if found.pinnable.pins:
        print(f"This patch pins what can run once, natively:\n\n{found.pinnable.diff}", end="")


def _needs(stage: StagePlan) -> str:
    return ", ".join(stage.detail.needs) or "-"


def _time(stage: StagePlan) -> str:
    """The expected seconds: `~` where they are worked out, `?` where nothing is known."""
    if stage.detail.seconds is None:
        return "?"
    return f"{'~' if 'times' in stage.detail.basis else ''}{stage.detail.seconds:.1f} s"


def _way(stage: StagePlan) -> str:
    return f"{stage.strategy}, else {stage.otherwise}" if stage.otherwise else str(stage.strategy)
