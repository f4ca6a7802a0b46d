"""Which stages one platform's image is made of, and what each needs of a platform.

Sources: BuildKit `frontend/dockerfile/dockerfile2llb/convert.go` (how names resolve, whose platform counts) and the
Dockerfile reference (scopes). Nothing is read and nothing is run here.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from polyarch.arch import Platform, parse_platform
from polyarch.dockerfile.grammar import arguments, mounts, nearest
from polyarch.dockerfile.model import Dockerfile, Instruction, Stage
from polyarch.dockerfile.parse import bad, parse_trigger, sources
from polyarch.dockerfile.scope import Scope, expand, global_scope, names_in
from polyarch.errors import InputError
from polyarch.oci.reference import parse_location


@dataclass(frozen=True, slots=True)
class StageRef:
    """Another stage of the file."""

    index: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by the name that the file gives it, expanded but not normalised."""

    name: str


@dataclass(frozen=True, slots=True)
class ContextRef:
    """A named build context (`--build-context NAME=…`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Scratch:
    """The empty image."""


Base = StageRef | ImageRef | ContextRef | Scratch


@dataclass(frozen=True, slots=True)
class ResolvedStage:
    """One stage as it is for one target platform.

    `platform` is the one its base must have and its programs run for. `triggers` are the ONBUILD instructions of its
    base, which run first. `needs` are the stages it is made of (by index, ascending), `reads` those of them that it
    copies or mounts from, `images` and `contexts` what else it copies or mounts from, `mount_types` the kinds of its
    RUN mounts. `executes`: something runs in it. `pinned`: its platform is stated through a BUILD argument, so that it
    can be built once for all targets. `target_args` are the names it declares whose value follows the target platform.
    `varies_by_platform`: something in it can differ from one target platform to the
    next.
    """

    index: int
    name: str
    label: str
    base: Base
    platform: Platform
    instructions: tuple[Instruction, ...]
    triggers: tuple[Instruction, ...]
    executes: bool
    needs: tuple[int, ...]
    reads: tuple[int, ...]
    images: tuple[str, ...]
    contexts: tuple[str, ...]
    mount_types: frozenset[str]
    pinned: bool
    target_args: frozenset[str]
    varies_by_platform: bool
    line: int


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages that the target stage is made of, each after those it needs; the last is the target."""

    target_platform: Platform
    build_platform: Platform
    stages: tuple[ResolvedStage, ...]
    scope: Scope
    build_args: Mapping[str, str]

    @property
    def target(self) -> ResolvedStage:
        """The stage whose image is the result."""
        return self.stages[-1]

    @property
    def images(self) -> tuple[str, ...]:
        """All images that the stages start or copy from, each once, in order."""
        found = (
            name
            for stage in self.stages
            for name in (*((stage.base.name,) if isinstance(stage.base, ImageRef) else ()), *stage.images)
        )
        return tuple(dict.fromkeys(found))

    def stage(self, index: int) -> ResolvedStage:
        """The stage with that index in the file. Raises `KeyError` when the target does not need it."""
        return {stage.index: stage for stage in self.stages}[index]


def resolve(
    dockerfile: Dockerfile,
    target_platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    target: str = "",
    *,
    contexts: Collection[str] = (),
    onbuild: Mapping[str, Sequence[str]] | None = None,
) -> Graph:
    """The stages that the target stage (a name or number; the last by default) needs, for one target platform.

    `contexts` are the names of additional build contexts, which win over stages and images of the same name.
    `onbuild` maps an image, named as `Graph.images` names it, to the ONBUILD triggers in its config; without it the
    triggers of images are not known. Raises `InputError`: unknown target (nearest named), a FROM without an image or
    with a bad platform, a variable that does not expand, stages that need each other.
    """
    scope = global_scope(dockerfile, target_platform, build_platform, build_args)
    resolver = _Resolver(dockerfile, target_platform, scope, frozenset(contexts), onbuild or {})
    bases = [resolver.base(stage) for stage in dockerfile.stages]
    wanted = _target(dockerfile, target)
    edges = _reachable(resolver, bases, wanted.index)
    resolved: dict[int, ResolvedStage] = {}
    for index in _ordered(dockerfile, edges):
        resolved[index] = resolver.stage(dockerfile.stages[index], bases[index], resolved)
    return Graph(target_platform, build_platform, tuple(resolved.values()), scope, dict(build_args))


@dataclass(frozen=True, slots=True)
class _Resolver:
    dockerfile: Dockerfile
    target_platform: Platform
    scope: Scope
    contexts: frozenset[str]
    onbuild: Mapping[str, Sequence[str]]

    def base(self, stage: Stage) -> Base:
        """What the stage's FROM means: only a stage above it is a stage."""
        name = expand(self.dockerfile, stage.base, self.scope.values, stage.line)
        if not name:
            raise bad(
                self.dockerfile.name, stage.line, f"the image name is empty: FROM {stage.base}",
                "give the ARG a default or pass --build-arg",
            )  # fmt: skip
        if name.lower() in self.contexts or name in self.contexts:
            return ContextRef(name)
        if name == "scratch":
            return Scratch()
        above = (other for other in reversed(self.dockerfile.stages[: stage.index]) if other.name == name.lower())
        found = next(above, None)
        return StageRef(found.index) if found else ImageRef(name)

    def source(self, name: str, line: int) -> Base:
        """What a `--from` or a mount's `from` means: any stage of the file, else an image."""
        if name.lower() in self.contexts or name in self.contexts:
            return ContextRef(name)
        found = self.dockerfile.stage_named(name)
        return StageRef(found.index) if found else Scratch() if name == "scratch" else self._image(name, line)

    def triggers(self, base: Base) -> tuple[Instruction, ...]:
        """What the base put off until it is built upon."""
        match base:
            case StageRef(index):
                put_off = (instruction.trigger for instruction in self.dockerfile.stages[index].instructions)
                return tuple(trigger for trigger in put_off if trigger)
            case ImageRef(name):
                return tuple(parse_trigger(text, name) for text in self.onbuild.get(name, ()))
            case _:
                return ()

    def reads(self, stage: Stage, base: Base) -> tuple[Base, ...]:
        """Everything the stage copies or mounts from, in order."""
        return tuple(
            self.source(name, instruction.line)
            for instruction in (*self.triggers(base), *stage.instructions)
            for name in sources(instruction)
        )

    def stage(self, stage: Stage, base: Base, resolved: Mapping[int, ResolvedStage]) -> ResolvedStage:
        """The stage, given all stages that it needs."""
        if isinstance(base, ImageRef):
            self._image(base.name, stage.line)
        triggers, reads = self.triggers(base), self.reads(stage, base)
        active = (*triggers, *stage.instructions)
        below = resolved[base.index] if isinstance(base, StageRef) else None
        read = {ref.index for ref in reads if isinstance(ref, StageRef)}
        needs = sorted(read | {base.index} if isinstance(base, StageRef) else read)
        images = tuple(dict.fromkeys(ref.name for ref in reads if isinstance(ref, ImageRef)))
        contexts = tuple(dict.fromkeys(ref.name for ref in reads if isinstance(ref, ContextRef)))
        runs = [instruction for instruction in active if instruction.keyword == "RUN"]
        platform, pinned, follows = self._platform(stage, below)
        # An image, or a context that may be one, is read for the target platform, whatever the stage is pinned to.
        foreign = any(isinstance(ref, ImageRef | ContextRef) for ref in reads)
        target_args = self._target_args(active)
        uses = bool(names_in(stage.base) & self.scope.by_target) or bool(target_args)
        varies = follows or foreign or uses or any(resolved[i].varies_by_platform for i in needs)
        return ResolvedStage(
            stage.index, stage.name, stage.label, base, platform, stage.instructions, triggers, bool(runs),
            tuple(needs), tuple(sorted(read)), images, contexts,
            frozenset(mount.kind for run in runs for mount in mounts(run)), pinned, target_args, varies,
            stage.line,
        )  # fmt: skip

    def _platform(self, stage: Stage, below: ResolvedStage | None) -> tuple[Platform, bool, bool]:
        """The effective platform, whether a BUILD argument gave it, and whether it follows the target."""
        if below:  # BuildKit takes the platform of the stage below, whatever this FROM says
            return below.platform, below.pinned, False
        if not stage.platform:
            return self.target_platform, False, True
        text = expand(self.dockerfile, stage.platform, self.scope.values, stage.line)
        if not text:
            raise bad(self.dockerfile.name, stage.line, f"empty platform value from expression {stage.platform}")
        try:
            platform = parse_platform(text)
        except InputError as error:
            raise bad(self.dockerfile.name, stage.line, error.message, error.hint) from error
        used = names_in(stage.platform)
        return platform, bool(used & self.scope.by_build), bool(used & self.scope.by_target)

    def _target_args(self, instructions: Sequence[Instruction]) -> frozenset[str]:
        """What a stage takes in that follows the target (it must declare it to see it)."""
        return (
            frozenset(a.name for i in instructions if i.keyword == "ARG" for a in arguments(i)) & self.scope.by_target
        )

    def _image(self, name: str, line: int) -> ImageRef:
        try:
            parse_location(name)
        except InputError as error:
            raise bad(self.dockerfile.name, line, f"{error.message}: {error.detail}", error.hint) from error
        return ImageRef(name)


def _target(dockerfile: Dockerfile, name: str) -> Stage:
    if not name:
        return dockerfile.stages[-1]
    found = dockerfile.stage_named(name)
    if found is None:
        names = [stage.name or str(stage.index) for stage in dockerfile.stages]
        raise InputError(f"{dockerfile.name} has no stage {name!r}", detail=f"stages: {', '.join(names)}",
                         hint=_named(dockerfile, name))  # fmt: skip
    return found


def _named(dockerfile: Dockerfile, name: str) -> str:
    known = [stage.name for stage in dockerfile.stages if stage.name]
    if known:
        return nearest(name.lower(), known)
    last = len(dockerfile.stages) - 1
    numbers = "its only stage is 0, and --target may be left out" if not last else f"they are the numbers 0 to {last}"
    return f"the stages have no names: {numbers}; FROM … AS {name.lower()} gives one"


def _reachable(resolver: _Resolver, bases: Sequence[Base], target: int) -> dict[int, set[int]]:
    """Index of each stage that the target needs -> the stages it needs itself."""
    edges: dict[int, set[int]] = {}
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index not in edges:
            reads = resolver.reads(resolver.dockerfile.stages[index], bases[index])
            edges[index] = {ref.index for ref in (bases[index], *reads) if isinstance(ref, StageRef)}
            waiting += edges[index]
    return edges


def _ordered(dockerfile: Dockerfile, edges: Mapping[int, set[int]]) -> list[int]:
    """Each stage after those it needs, otherwise as in the file. Raises `InputError` for a circle."""
    sorter = TopologicalSorter(edges)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [dockerfile.stages[index] for index in reversed(error.args[1])]
        names = " needs ".join(stage.label for stage in circle)
        raise bad(dockerfile.name, circle[0].line, f"stages need each other: {names}") from error
    ready: list[int] = []
    order: list[int] = []
    while sorter.is_active():
        for index in sorter.get_ready():
            heapq.heappush(ready, index)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    return order
