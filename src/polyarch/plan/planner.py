"""The planner: a pure function from what the user wants and what the machine can do to a plan.

It never asks a machine, a file or a registry; `base.resolve` and `facts` did that before. Ways are taken in the order
of their cost: native, then graft, then emulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import ContextRef, Graph, ImageRef, ResolvedStage, Scratch
from polyarch.facts.model import Execution, Facts
from polyarch.plan.graft import forecast, foundation, obstacle
from polyarch.plan.model import BuildPlan, Fault, GraftPlan, PlatformPlan, Problem, StagePlan, Strategy

_CHOOSE = "leave --strategy out, and the cheapest way that is sound is taken"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What `--strategy` says: for all platforms that it can be said of, and for single ones."""

    everywhere: Strategy | None = None
    single: Mapping[Platform, Strategy] = field(default_factory=dict)

    def of(self, platform: Platform, *, native: bool) -> Strategy | None:
        """What is wished for a platform; what is said of all is not said of the one that needs no help."""
        return self.single.get(platform) or (None if native else self.everywhere)


def plan(
    dockerfile: str,
    graphs: Mapping[Platform, Graph],
    bases: Mapping[str, BaseAnswer],
    facts: Facts,
    wishes: Wishes = Wishes(),
    source: Graph | None = None,
) -> BuildPlan:
    """Decide for each platform and stage; `bases` answers for every image that the graphs name.

    `dockerfile` is how messages call the file. `source` is the graph of the native platform whose layers others may
    take over. Problems are collected, all of them, and never raised.
    """
    planner = _Planner(bases, facts, wishes, source)
    return BuildPlan(
        dockerfile, facts.platform, tuple(planner.platform(target, graph) for target, graph in graphs.items())
    )


@dataclass(frozen=True, slots=True)
class _Planner:
    bases: Mapping[str, BaseAnswer]
    facts: Facts
    wishes: Wishes
    source: Graph | None

    def platform(self, target: Platform, graph: Graph) -> PlatformPlan:
        """One target: grafted where that is asked for, or cheaper and allowed; else built stage by stage."""
        emulated = any(s.executes and self.facts.execution(s.platform).way != "native" for s in graph.stages)
        native = target in self.facts.native
        wish = self.wishes.of(target, native=native)
        against = self._against_graft(target, graph)
        built = self._built(target, graph)
        if wish is None and emulated and not against and not built.problems:
            against = forecast(graph)
        if wish is None and emulated and not against and not self._source_problems():
            return self._grafted(graph, built, forced=False)
        if wish is Strategy.GRAFT and not against:
            return self._grafted(graph, built, forced=True)
        refused = self._refused(target, graph, wish, against, emulated)
        if refused:
            return PlatformPlan(target, built.stages, (*built.problems, refused))
        if wish is None and emulated and against:
            stages = tuple(_no_graft(stage, against) for stage in built.stages)
            return PlatformPlan(target, stages, built.problems)
        return built

    def _against_graft(self, target: Platform, graph: Graph) -> str:
        if target in self.facts.native or self.source is None:
            return f"{target} is what this machine builds natively"
        return obstacle(self.source, graph, self.bases)

    def _source_problems(self) -> tuple[Problem, ...]:
        """What stands in the way of the native build that would give the layers."""
        return self._built(self.source.target_platform, self.source).problems if self.source else ()

    def _refused(
        self, target: Platform, graph: Graph, wish: Strategy | None, against: str, emulated: bool
    ) -> Problem | None:
        """A wish that cannot be granted."""
        why = ""
        if wish is Strategy.GRAFT:
            why = against
        elif wish is Strategy.NATIVE and emulated:
            why = f"it has RUN steps, and this machine's processor does not execute {target}"
        elif wish is Strategy.CROSS and emulated:
            foreign = next(s for s in graph.stages if s.executes and s.platform not in self.facts.native)
            why = f"stage {foreign.label} has RUN steps and is not pinned to the build platform"
        elif wish is Strategy.EMULATE and target in self.facts.native:
            why = "this machine's own processor executes it"
        if not why:
            return None
        line = graph.target.line
        return Problem(Fault.INPUT, line, f"--strategy {target}={wish} is not possible: {why}", _CHOOSE)

    def _grafted(self, graph: Graph, built: PlatformPlan, *, forced: bool) -> PlatformPlan:
        """The platform as a graft; `built` is how it would be built, should the proof fail."""
        source = self.source.target_platform if self.source else self.facts.platform
        possible = not built.problems
        otherwise = Strategy.EMULATE if possible and not forced else None
        reason = f"the layers of {source} on this platform's base, if they hold nothing of one architecture"
        if not possible and not forced:
            reason = f"{reason}; no other way: {built.problems[0].message}"
        stages = tuple(
            StagePlan(s.index, s.label, s.platform, s.base, Strategy.GRAFT, reason, otherwise) for s in built.stages
        )
        problems = tuple(problem for problem in built.problems if problem.fault is Fault.INPUT)
        problems += self._source_problems() if forced else ()
        graft = GraftPlan(source, foundation(graph), forced, possible)
        return PlatformPlan(graph.target_platform, stages, tuple(dict.fromkeys(problems)), graft)

    def _built(self, target: Platform, graph: Graph) -> PlatformPlan:
        """The platform with its own programs executed, here or under an emulator."""
        stages: list[StagePlan] = []
        problems: list[Problem] = []
        for stage in graph.stages:
            execution = self.facts.execution(stage.platform)
            problems += _problems(stage, target, self.bases, execution)
            strategy, reason = _way(stage, graph, execution)
            base = _base_text(stage, graph)
            stages.append(StagePlan(stage.index, stage.label, stage.platform, base, strategy, reason))
        problems += _foreign_target(graph)
        return PlatformPlan(target, tuple(stages), tuple(dict.fromkeys(problems)))


def _no_graft(stage: StagePlan, against: str) -> StagePlan:
    if stage.strategy is not Strategy.EMULATE:
        return stage
    reason = f"{stage.reason}; no graft: {against}"
    return StagePlan(stage.index, stage.label, stage.platform, stage.base, stage.strategy, reason)


def _way(stage: ResolvedStage, graph: Graph, execution: Execution) -> tuple[Strategy, str]:
    """How a stage is built that is no graft, and why so."""
    if not stage.executes:
        return Strategy.NATIVE, "no RUN: files are copied, nothing of the platform is executed"
    if execution.way != "native":
        return Strategy.EMULATE, execution.why
    if stage.platform == graph.target_platform:
        return Strategy.NATIVE, execution.why
    pinned = "the build platform" if stage.pinned else str(stage.platform)
    taken = ", ".join(sorted(stage.target_args))
    once = "the same for every platform: once for all"
    if stage.varies_by_platform:
        once = f"{f'takes in {taken}' if taken else 'made of what differs'}: once for each platform"
    return Strategy.CROSS, f"pinned to {pinned}, so it runs natively; {once}"


def _foreign_target(graph: Graph) -> Iterator[Problem]:
    """A target stage of another architecture: its image would not be what its label says."""
    stage, target = graph.target, graph.target_platform
    if (stage.platform.os, stage.platform.architecture) != (target.os, target.architecture):
        message = f"stage {stage.label} is the image for {target}, but it is pinned to {stage.platform}"
        hint = f"take --platform off its FROM and leave that to stages that others copy from, or leave {target} out"
        yield Problem(Fault.INPUT, stage.line, message, hint)


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
