"""`polyarch plan`: which way each stage goes on each platform, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyarch.cli.common import (
    Json,
    Platforms,
    TlsVerify,
    finish,
    print_json,
    store,
    table,
)
from polyarch.cli.request import BuildArgs, Context, Contexts, File, Strategies, Target, read
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.plan.model import BuildPlan, PlatformPlan, StagePlan


def plan(
    context: Context,
    file: File = None,
    platform: Platforms = None,
    build_arg: BuildArgs = None,
    target: Target = "",
    build_context: Contexts = None,
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
    from polyarch.build.prepare import prepare, refuse
    from polyarch.facts.gather import gather

    request = read(context, file, platform, build_arg, target, build_context, strategy, tls_verify=tls_verify)
    prepared = finish(prepare(request, gather(), store()))
    _print(prepared.plan, why, "json" if json else output)
    refuse(prepared)


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
