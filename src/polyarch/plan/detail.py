"""What a plan tells of each stage beside its way: what it needs, how long it takes, why no other way. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import Graph, ImageRef, ResolvedStage
from polyarch.facts.model import Facts
from polyarch.nodes.model import Answer
from polyarch.plan.graft import forecast, obstacle
from polyarch.plan.model import BuildPlan, Detail, PlatformPlan, Refusal, StagePlan, Strategy
from polyarch.plan.planner import Wishes
from polyarch.plan.times import Took, expected


@dataclass(frozen=True, slots=True)
class Known:
    """All that the plan was made of, and what stages took before; `source` is the native platform's graph."""

    graphs: Mapping[Platform, Graph]
    source: Graph
    bases: Mapping[str, BaseAnswer]
    facts: Facts
    nodes: Sequence[Answer]
    wishes: Wishes
    history: Sequence[Took]


def detailed(made: BuildPlan, known: Known) -> BuildPlan:
    """The plan with the details of every stage."""
    return replace(made, platforms=tuple(_platform(made, entry, known) for entry in made.platforms))


def _platform(made: BuildPlan, entry: PlatformPlan, known: Known) -> PlatformPlan:
    graph = known.graphs[entry.platform]
    stages = tuple(replace(s, detail=_detail(made, entry, graph, s, known)) for s in entry.stages)
    return replace(entry, stages=stages)


def _detail(made: BuildPlan, entry: PlatformPlan, graph: Graph, plan: StagePlan, known: Known) -> Detail:
    stage = graph.stage(plan.index)
    grafted_below = plan.strategy is Strategy.GRAFT and stage is not graph.target
    path = str(Path(made.dockerfile).absolute())
    time = expected(known.history, path, plan.label, str(entry.platform), plan.strategy)
    return Detail(
        needs=tuple(_needs(entry, graph, plan, known)),
        below=tuple(graph.stage(index).label for index in stage.needs),
        shared=not stage.varies_by_platform,
        seconds=0.0 if grafted_below else time.seconds,
        basis="nothing is built, the layers are taken over" if grafted_below else time.basis,
        refused=tuple(
            Refusal(way, why)
            for way in Strategy
            if way is not plan.strategy and (why := _refused(way, entry, graph, plan, known))
        ),
    )


def _needs(entry: PlatformPlan, graph: Graph, plan: StagePlan, known: Known) -> Iterator[str]:
    stage = graph.stage(plan.index)
    if plan.strategy is Strategy.NODE or plan.otherwise is Strategy.NODE:
        yield f"node {' or '.join(entry.node.names)}" if entry.node else "a node"
    if entry.graft:
        yield f"the image for {entry.graft.source}"
    if stage.executes and Strategy.EMULATE in {plan.strategy, plan.otherwise}:
        execution = known.facts.execution(stage.platform)
        if execution.emulator:
            yield execution.emulator.path.name
        elif execution.handler:
            yield f"the host's handler {execution.handler}"
    names = [*([stage.base.name] if isinstance(stage.base, ImageRef) else []), *stage.images]
    yield from (f"{name} from its registry" for name in names if known.bases[name].where == "registry")


def _refused(way: Strategy, entry: PlatformPlan, graph: Graph, plan: StagePlan, known: Known) -> str:
    """Why a stage does not go this way."""
    stage = graph.stage(plan.index)
    wish = known.wishes.of(entry.platform, native=entry.platform in known.facts.native)
    reason = ""
    match way:
        case Strategy.NATIVE:
            reason = _no_native(stage, plan, known)
        case Strategy.CROSS:
            reason = _no_cross(stage, graph)
        case Strategy.GRAFT:
            reason = _no_graft(entry, graph, known)
        case Strategy.NODE:
            reason = _no_node(entry, graph, known)
        case Strategy.EMULATE:
            reason = _no_emulation(stage, known)
    if not reason and wish is not None:
        return f"--strategy says {wish}"
    if not reason and plan.otherwise is way:
        return f"only if the {plan.strategy} fails"
    return reason or f"{plan.strategy} costs less"


def _no_native(stage: ResolvedStage, plan: StagePlan, known: Known) -> str:
    if stage.executes and stage.platform not in known.facts.native:
        return f"this machine's processor does not execute {stage.platform}"
    return "the stage is pinned to another platform than the target" if plan.strategy is Strategy.CROSS else ""


def _no_cross(stage: ResolvedStage, graph: Graph) -> str:
    if not stage.executes:
        return "it has no RUN"
    if stage.platform == graph.target_platform:
        native = graph.target_platform == graph.build_platform
        return "the target is the build platform itself" if native else "the stage is not pinned to the build platform"
    return ""


def _no_graft(entry: PlatformPlan, graph: Graph, known: Known) -> str:
    if entry.platform in known.facts.native:
        return f"{entry.platform} is what this machine builds natively"
    return obstacle(known.source, graph, known.bases) or forecast(graph)


def _no_node(entry: PlatformPlan, graph: Graph, known: Known) -> str:
    if entry.node:
        return ""
    if not known.nodes:
        return "no node is known for it (polyarch node add)"
    runs = {s.platform for s in graph.stages if s.executes and s.platform != known.facts.platform} | {entry.platform}
    told = (
        f"{answer.node.name}: {answer.problem or f'it does not build for {entry.platform}'}"
        for answer in known.nodes
        if not runs <= set(answer.platforms)
    )
    return "; ".join(told)


def _no_emulation(stage: ResolvedStage, known: Known) -> str:
    execution = known.facts.execution(stage.platform)
    if not stage.executes:
        return "it has no RUN"
    if execution.way == "native":
        return "this machine's own processor executes it"
    return execution.why if execution.way == "none" else ""
