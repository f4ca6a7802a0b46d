"""Which platforms go to a node: those that it executes natively, where this machine would emulate them or cannot.

Pure: the nodes were asked before. A platform goes to a node as a whole, but for stages that are pinned to this machine:
the node must execute all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polyarch.arch import Platform
from polyarch.dockerfile.graph import Graph
from polyarch.nodes.model import Answer, Node
from polyarch.plan.model import BuildPlan, Fault, NodePlan, PlatformPlan, Problem, Strategy
from polyarch.plan.planner import Wishes


def candidates(made: BuildPlan, wishes: Wishes) -> frozenset[Platform]:
    """The platforms for which it matters whether a node is there; others need not ask any."""
    return frozenset(entry.platform for entry in made.platforms if _may_be_placed(entry, made, wishes))


def claims(node: Node, platforms: frozenset[Platform]) -> bool:
    """Whether it is worth asking this node."""
    return not node.platforms or not platforms.isdisjoint(node.platforms)


def placed(made: BuildPlan, graphs: Mapping[Platform, Graph], answers: Sequence[Answer], wishes: Wishes) -> BuildPlan:
    """The plan with nodes in it; the order of `answers` is kept."""
    wanted = candidates(made, wishes)
    entries = (
        _placed(entry, graphs[entry.platform], made.host, answers, forced=_forced(entry.platform, made, wishes))
        if entry.platform in wanted
        else entry
        for entry in made.platforms
    )
    return replace(made, platforms=tuple(entries))


def _placed(
    entry: PlatformPlan, graph: Graph, host: Platform, answers: Sequence[Answer], *, forced: bool
) -> PlatformPlan:
    runs = {s.platform for s in graph.stages if s.executes and s.platform != host} | {entry.platform}
    able = tuple(answer.node.name for answer in answers if runs <= set(answer.platforms))
    # that a sound node is for other platforms only is no news, unless the user insists on a node
    why = "; ".join(_against(answer, runs) for answer in answers if answer.problem or forced)
    ours = tuple(problem for problem in entry.problems if problem.fault is not Fault.HOST)
    possible = ours == entry.problems
    if able and entry.graft:
        stages = tuple(replace(stage, otherwise=Strategy.NODE) for stage in entry.stages)
        graft = replace(entry.graft, otherwise=True)
        return replace(entry, stages=stages, graft=graft, node=NodePlan(able, forced, entry.graft.otherwise))
    if able:
        otherwise = Strategy.EMULATE if possible and not forced else None
        reason = f"executed natively on {' or '.join(able)}"
        stages = tuple(
            s
            if s.strategy is Strategy.CROSS
            else replace(s, strategy=Strategy.NODE, reason=reason, otherwise=otherwise)
            for s in entry.stages
        )
        return replace(entry, stages=stages, problems=ours, node=NodePlan(able, forced, otherwise is not None))
    if forced:
        message = f"--strategy {entry.platform}=node is not possible: {why or 'there is no node'}"
        missing = Problem(Fault.HOST, graph.target.line, message, "polyarch node check; polyarch node add")
        return replace(entry, problems=(*ours, missing))
    if why and not entry.graft:
        stages = tuple(
            replace(s, reason=f"{s.reason}; no node: {why}") if s.strategy is Strategy.EMULATE else s
            for s in entry.stages
        )
        return replace(entry, stages=stages)
    return entry


def _may_be_placed(entry: PlatformPlan, made: BuildPlan, wishes: Wishes) -> bool:
    if _forced(entry.platform, made, wishes):
        return True
    if wishes.of(entry.platform, native=entry.platform == made.host) is not None:
        return False
    lacking = any(problem.fault is Fault.HOST for problem in entry.problems)
    return lacking or entry.graft is not None or any(s.strategy is Strategy.EMULATE for s in entry.stages)


def _forced(platform: Platform, made: BuildPlan, wishes: Wishes) -> bool:
    return wishes.of(platform, native=platform == made.host) is Strategy.NODE


def _against(answer: Answer, runs: set[Platform]) -> str:
    lacking = ", ".join(sorted(map(str, runs - set(answer.platforms))))
    problem = answer.problem or f"it does not build for {lacking}"
    return problem if answer.node.name in problem else f"node {answer.node.name}: {problem}"
