"""All reasons for one stage of a plan, the ways that were refused, and the same of the stages below it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polyarch.plan.model import PlatformPlan, StagePlan


def explained(entry: PlatformPlan, stage: StagePlan) -> Iterator[str]:
    """Lines for people, the stage first and then each that it is made of."""
    for each in _chain(entry, stage):
        yield from _told(entry, each)


def reasons(entry: PlatformPlan, stage: StagePlan) -> dict[str, Any]:
    """The same as `-o json` prints it."""
    return {"platform": str(entry.platform), "stages": [each.as_dict() for each in _chain(entry, stage)]}


def _chain(entry: PlatformPlan, stage: StagePlan) -> list[StagePlan]:
    """The stage and all that it is made of, nearest first, each once."""
    stages = {each.label: each for each in entry.stages}
    found: dict[str, StagePlan] = {}
    waiting = [stage.label]
    while waiting:
        label = waiting.pop(0)
        if label not in found:
            found[label] = stages[label]
            waiting += stages[label].detail.below
    return list(found.values())


def _told(entry: PlatformPlan, stage: StagePlan) -> Iterator[str]:
    detail = stage.detail
    way = f"{stage.strategy}, else {stage.otherwise}" if stage.otherwise else str(stage.strategy)
    yield f"{entry.platform}:{stage.label}: {way}"
    yield f"  because   {stage.reason}"
    yield f"  runs      {stage.platform} programs, on {stage.base}"
    if detail.below:
        yield f"  made of   {', '.join(detail.below)}"
    if detail.needs:
        yield f"  needs     {', '.join(detail.needs)}"
    if detail.seconds is None:
        yield "  time      ? (it was never built here)"
    else:
        yield f"  time      {detail.seconds:.1f} s ({detail.basis})"
    for refusal in detail.refused:
        yield f"  not {refusal.strategy:<8}{refusal.reason}"
