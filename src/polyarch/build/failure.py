"""A failed step in words: which platform, which line of the Dockerfile, what it last said, what to do."""

from __future__ import annotations

from pathlib import Path

from polyarch.arch import ARCHES, Platform
from polyarch.build.culprit import Culprit
from polyarch.build.prepare import Prepared
from polyarch.build.steps import Step
from polyarch.errors import BuildError

_CROSS = (
    "the stage is pinned to the build platform, so it runs nothing of the target: run this in a stage of the target's"
    " platform, or have one for the build machine made or copied"
)
_WRONG = (
    "was it copied from the context, or downloaded or built for the build machine? Choose the download by TARGETARCH,"
    " or build it in a stage of this platform"
)


def explain(
    error: BuildError,
    prepared: Prepared,
    platform: Platform,
    step: Step | None,
    log: Path,
    culprit: Culprit | None = None,
) -> BuildError:
    """The error of a build, told in terms of the user's Dockerfile; so is a program for another processor."""
    where = f"{prepared.plan.dockerfile}:{step.line}: {step.text}" if step else prepared.plan.dockerfile
    hint = f"the whole log is {log}"
    message = f"{platform}: {where}"
    if culprit is not None:
        runs = stage_platform(prepared, platform, step)
        what = "a file that is no program" if culprit.text else "a program of another architecture"
        message = f"{platform}: {what} was executed in {where}"
        told, mend = _told(culprit, runs, pinned=runs != platform)
        hint = f"{_foreseen(prepared, platform, step) or f'{told}; {mend}'}. {hint}"
    return BuildError(message, detail=error.detail, hint=hint)


def stage_platform(prepared: Prepared, platform: Platform, step: Step | None) -> Platform:
    """Whose programs the step runs: its stage's."""
    stages = prepared.graph(platform).stages
    return next((stage.platform for stage in stages if step and stage.index == step.stage), platform)


def _told(culprit: Culprit, runs: Platform, *, pinned: bool) -> tuple[str, str]:
    """What was executed, and what helps."""
    name = culprit.path or "what it executed"
    if culprit.platforms:
        own = f"the stage runs {runs} programs"
        if runs in culprit.platforms:
            return f"{name} is a program for {runs}, as it should be, but it needs one that is not", _WRONG
        return f"{name} is a program for {' or '.join(map(str, culprit.platforms))}, and {own}", (
            _CROSS if pinned else _WRONG
        )
    if culprit.text:
        return f"{name} is no program: it has neither an ELF header nor a #! line", "write the interpreter into #!"
    return f"{name} is for another processor than {ARCHES[runs].uname}, or a script without #!", (
        _CROSS if pinned else _WRONG
    )


def _foreseen(prepared: Prepared, platform: Platform, step: Step | None) -> str:
    """What the plan's warning of this line said."""
    entries = [entry for entry in prepared.plan.platforms if entry.platform == platform]
    found = (warning for entry in entries for warning in entry.warnings if step and warning.line == step.line)
    return next((f"{warning.message}: {warning.hint}" for warning in found), "")
