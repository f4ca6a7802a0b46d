"""A failed step in words: which platform, which line of the Dockerfile, what it last said, what to do."""

from __future__ import annotations

from pathlib import Path

from polyarch.arch import Platform
from polyarch.build.prepare import Prepared
from polyarch.build.steps import Step, tells_format_error
from polyarch.errors import BuildError


def explain(error: BuildError, prepared: Prepared, platform: Platform, step: Step | None, log: Path) -> BuildError:
    """The error of a build, told in terms of the user's Dockerfile; `exec format error` is explained."""
    where = f"{prepared.plan.dockerfile}:{step.line}: {step.text}" if step else prepared.plan.dockerfile
    hint = f"the whole log is {log}"
    message = f"{platform}: {where}"
    if tells_format_error(error.detail):
        stage = prepared.dockerfile.stages[step.stage].label if step else "the build"
        message = f"{platform}: a program of another architecture was executed in {where}"
        hint = (
            f"stage {stage} runs {platform} programs; what it executed is for another processor, or is a script without"
            " #!. Was it copied from the context or downloaded for the build machine? Choose the download by"
            f" TARGETARCH, or build it in a stage of this platform. {hint}"
        )
    return BuildError(message, detail=error.detail, hint=hint)
