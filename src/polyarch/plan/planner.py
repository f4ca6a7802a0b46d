"""The planner: a pure function from what the user wants and what the machine can do to a plan.

It never asks a machine, a file or a registry; `base.resolve` and `facts` did that before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import ContextRef, Graph, ImageRef, ResolvedStage, Scratch
from polyarch.facts.model import Execution, Facts
from polyarch.plan.model import BuildPlan, Fault, PlatformPlan, Problem, StagePlan, Strategy


def plan(dockerfile: str, graphs: Mapping[Platform, Graph], bases: Mapping[str, BaseAnswer], facts: Facts) -> BuildPlan:
    """Decide for each platform and stage; `bases` answers for every image that the graphs name.

    `dockerfile` is how messages call the file. Problems are collected, all of them, and never raised.
    """
    return BuildPlan(
        dockerfile,
        facts.platform,
        tuple(_platform(target, graph, bases, facts) for target, graph in graphs.items()),
    )


def _platform(target: Platform, graph: Graph, bases: Mapping[str, BaseAnswer], facts: Facts) -> PlatformPlan:
    stages: list[StagePlan] = []
    problems: list[Problem] = []
    for stage in graph.stages:
        execution = facts.execution(stage.platform)
        problems += _problems(stage, target, bases, execution)
        strategy = Strategy.NATIVE if execution.way == "native" else Strategy.EMULATE
        reason = _reason(stage, target, execution)
        if not stage.executes and strategy is Strategy.EMULATE:
            strategy, reason = Strategy.NATIVE, "no RUN: files are copied, nothing of the platform is executed"
        stages.append(StagePlan(stage.index, stage.label, stage.platform, _base_text(stage, graph), strategy, reason))
    return PlatformPlan(target, tuple(stages), tuple(dict.fromkeys(problems)))


def _reason(stage: ResolvedStage, target: Platform, execution: Execution) -> str:
    if stage.pinned and stage.platform != target:
        return f"pinned to the build platform; {execution.why}"
    return execution.why


def _problems(
    stage: ResolvedStage, target: Platform, bases: Mapping[str, BaseAnswer], execution: Execution
) -> Iterator[Problem]:
    if isinstance(stage.base, ImageRef):
        yield from _base_problems(bases[stage.base.name], stage.platform, stage.line)
    for name in stage.images:
        yield from _base_problems(bases[name], target, stage.line)
    if stage.executes and execution.way == "none":
        message = f"stage {stage.label} has RUN steps, and nothing here executes {stage.platform}: {execution.why}"
        yield Problem(Fault.HOST, stage.line, message, execution.fix)


def _base_problems(base: BaseAnswer, platform: Platform, line: int) -> Iterator[Problem]:
    if base.problem:
        yield Problem(Fault.INPUT, line, base.problem, base.hint)
    elif base.digest(platform) is None:
        has = ", ".join(str(offered) for offered, _ in base.offered) or "no image at all"
        kind = "is a single image, not an index, and is" if base.plain else "has"
        yield Problem(
            Fault.INPUT,
            line,
            f"base {base.name} lacks {platform}: it {kind} {has}",
            "choose a base that offers the platform, leave the platform out, or make one with `polyarch base`",
        )


def _base_text(stage: ResolvedStage, graph: Graph) -> str:
    match stage.base:
        case ImageRef(name) | ContextRef(name):
            return name
        case Scratch():
            return "scratch"
        case _:
            return graph.stage(stage.base.index).label
