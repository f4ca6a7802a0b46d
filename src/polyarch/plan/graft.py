"""Whether a platform's image may be made of another's layers, as far as the Dockerfile tells.

Pure, and before anything is built: what the layers hold is proved when they are there (`verify.portable`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.grammar import arguments
from polyarch.dockerfile.graph import Graph, ImageRef, ResolvedStage, StageRef
from polyarch.dockerfile.model import Instruction

_INSTALLS: Final = re.compile(
    r"\b(apt-get|apt|aptitude|apk|dnf|microdnf|tdnf|yum|zypper)\b[^|;&\n]*\s(install|add|upgrade|dist-upgrade|in)\b"
)


def obstacle(source: Graph, target: Graph, bases: Mapping[str, BaseAnswer]) -> str:
    """Why the layers of `source`'s image cannot be those of `target`'s; "" when nothing speaks against it."""
    differing = _differing(source, target)
    for stage in target.stages:
        declared = {a.name for i in (*stage.triggers, *stage.instructions) if i.keyword == "ARG" for a in arguments(i)}
        if declared & differing:
            return f"stage {stage.label} depends on {', '.join(sorted(declared & differing))}"
    if [stage.index for stage in source.stages] != [stage.index for stage in target.stages]:
        return "other stages are used on each platform"
    if target.target.platform != target.target_platform:
        return f"stage {target.target.label} is pinned to {target.target.platform}"
    below = foundation(target)
    if below != foundation(source):
        return f"stage {target.target.label} stands on another image on each platform"
    for stage in target.stages:
        found = _image_obstacle(stage, source.stage(stage.index))
        if found:
            return found
    return _base_obstacle(bases[below], source.target_platform, target.target_platform) if below else ""


def forecast(target: Graph) -> str:
    """Why the proof is bound to fail, so that trying would only cost time; "" when it may hold.

    The target stage, or one below it, installs packages: that changes the package database of the image.
    """
    stage: ResolvedStage | None = target.target
    while stage is not None:
        for instruction in (*stage.triggers, *stage.instructions):
            if instruction.keyword == "RUN" and _INSTALLS.search(_script(instruction)):
                return f"stage {stage.label} installs packages in line {instruction.line}"
        stage = target.stage(stage.base.index) if isinstance(stage.base, StageRef) else None
    return ""


def foundation(graph: Graph) -> str:
    """The image that the target stage stands on in the end, "" for scratch."""
    stage = graph.target
    while isinstance(stage.base, StageRef):
        stage = graph.stage(stage.base.index)
    return stage.base.name if isinstance(stage.base, ImageRef) else ""


def _script(instruction: Instruction) -> str:
    return "\n".join([instruction.original, *(heredoc.content for heredoc in instruction.heredocs)])


def _differing(source: Graph, target: Graph) -> frozenset[str]:
    """The arguments whose value follows the platform and is not the same for both."""
    names = source.scope.by_target | target.scope.by_target
    return frozenset(name for name in names if source.scope.values.get(name) != target.scope.values.get(name))


def _image_obstacle(stage: ResolvedStage, other: ResolvedStage) -> str:
    if stage.base != other.base or stage.images != other.images:
        return f"stage {stage.label} is made of another image on each platform"
    return f"stage {stage.label} uses a named build context" if stage.contexts else ""


def _base_obstacle(base: BaseAnswer, source: Platform, target: Platform) -> str:
    missing = [str(platform) for platform in (source, target) if base.digest(platform) is None]
    return f"base {base.name} lacks {', '.join(missing)}" if missing else ""
