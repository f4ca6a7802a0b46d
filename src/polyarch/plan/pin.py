"""Which stages could be pinned to the build platform, so that they run once, natively; and the patch that does it.

Pure, and cautious: a stage is named only if each of its commands is known and what other stages take from it is the
same for every platform, or is cross-compiled by a compiler that can (Go). Source for how a pinned stage behaves:
Dockerfile reference, "Automatic platform ARGs in the global scope".
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import Graph, ImageRef, ResolvedStage, StageRef
from polyarch.dockerfile.model import Dockerfile
from polyarch.dockerfile.parse import sources
from polyarch.plan.model import BuildPlan, Pin, PinPatch, Strategy
from polyarch.plan.patch import pin, pin_c, pin_go
from polyarch.plan.products import Product, product

_NO_NEWLINE = "\n\\ No newline at end of file\n"  # as diff(1) says it
_EDITS = {"": pin, "go": pin_go, "c": pin_c}


def pinnable(
    made: BuildPlan, dockerfile: Dockerfile, graphs: Mapping[Platform, Graph], bases: Mapping[str, BaseAnswer]
) -> PinPatch:
    """What of a plan's emulated stages could be pinned; the first platform that has such speaks for all."""
    for entry in made.platforms:
        sure = {stage.index for stage in entry.stages if stage.strategy is Strategy.EMULATE}
        perhaps = {stage.index for stage in entry.stages if stage.otherwise is Strategy.EMULATE}
        found = _pin_patch(dockerfile, graphs[entry.platform], bases, sure, perhaps)
        if found.pins:
            return found
    return PinPatch()


def _pin_patch(
    dockerfile: Dockerfile,
    graph: Graph,
    bases: Mapping[str, BaseAnswer],
    sure: Collection[int],
    perhaps: Collection[int],
) -> PinPatch:
    """`perhaps` are emulated only if a graft fails, as it does where a compiler's output is in the image."""
    made = {stage.index: item for stage in graph.stages if (item := _candidate(dockerfile, graph, stage, bases))}
    found = {index: item for index, item in made.items() if index in sure or (item.compiler and index in perhaps)}
    while wrong := {index for index in found if not _fed_natively(graph, graph.stage(index), found)}:
        found = {index: made for index, made in found.items() if index not in wrong}
    pins = tuple(
        Pin(graph.stage(index).label, graph.stage(index).line, made.confidence, made.reason)
        for index, made in sorted(found.items())
    )
    lines = dockerfile.text.split("\n")
    for index in sorted(found, reverse=True):  # from below: a line that comes in moves those after it
        _EDITS[found[index].compiler](lines, graph.stage(index))
    return PinPatch(pins, _diff(dockerfile, "\n".join(lines)))


def _candidate(
    dockerfile: Dockerfile, graph: Graph, stage: ResolvedStage, bases: Mapping[str, BaseAnswer]
) -> Product | None:
    """What the stage makes, if it stands on an image by itself, nothing stands on it, and others only copy from it."""
    if not stage.executes or stage.platform == graph.build_platform or stage.triggers or stage.images or stage.contexts:
        return None
    if stage.index == graph.target.index or any(other.base == StageRef(stage.index) for other in graph.stages):
        return None
    if not isinstance(stage.base, ImageRef) or dockerfile.stages[stage.index].platform:
        return None
    if bases[stage.base.name].digest(graph.build_platform) is None:
        return None
    return product(stage, _taken(dockerfile, graph, stage))


def _taken(dockerfile: Dockerfile, graph: Graph, stage: ResolvedStage) -> tuple[str, ...]:
    """The paths that other stages copy from this one; a mount takes everything, which is said as `/`."""
    return tuple(
        path
        for other in graph.stages
        for instruction in other.instructions
        if any(dockerfile.stage_named(name) is dockerfile.stages[stage.index] for name in sources(instruction))
        for path in (instruction.args[:-1] if instruction.keyword == "COPY" else ("/",))
    )


def _fed_natively(graph: Graph, stage: ResolvedStage, pinned: Mapping[int, Product]) -> bool:
    """Whether all that the stage reads from other stages is made on the build platform, too."""
    return all(index in pinned or graph.stage(index).platform == graph.build_platform for index in stage.reads)


def _diff(dockerfile: Dockerfile, new: str) -> str:
    old, changed = dockerfile.text.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(old, changed, dockerfile.name, dockerfile.name)
    return "".join(line if line.endswith("\n") else f"{line}{_NO_NEWLINE}" for line in lines)
