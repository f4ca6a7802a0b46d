"""What stands in a stage's environment, and which shell is in force, before each of its instructions.

Needed where the builder cannot expand a text itself. Source: Dockerfile reference, sections "Scope" and "Using ARG
variables" of ARG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from polyarch.dockerfile.grammar import arguments
from polyarch.dockerfile.graph import Graph, ResolvedStage, StageRef
from polyarch.dockerfile.model import Dockerfile, Instruction
from polyarch.dockerfile.scope import expand

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What a stage's base image says of the environment and of its shell."""

    env: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = DEFAULT_SHELL


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The variables (ARG and ENV, ENV first) and the shell that an instruction meets."""

    values: Mapping[str, str]
    shell: tuple[str, ...]


def surroundings(dockerfile: Dockerfile, graph: Graph, bases: Mapping[int, BaseConfig]) -> dict[int, Surroundings]:
    """Line of each RUN, COPY and ADD in the graph's stages -> what it meets.

    `bases` maps a stage's index to the config of the image it starts from; stages without an entry start empty. Raises
    `InputError` with the line of a value that does not expand.
    """
    found: dict[int, Surroundings] = {}
    ends: dict[int, BaseConfig] = {}
    for stage in graph.stages:
        base = bases.get(stage.index, BaseConfig())
        if isinstance(stage.base, StageRef) and stage.index not in bases:
            base = ends[stage.base.index]
        walk = _Walk(dockerfile, graph, {}, dict(base.env), base.shell)
        for instruction in stage.triggers:
            walk.take(instruction)
        found |= walk.through(stage)
        ends[stage.index] = BaseConfig(walk.env, walk.shell)
    return found


@dataclass
class _Walk:
    dockerfile: Dockerfile
    graph: Graph
    args: dict[str, str]
    env: dict[str, str]
    shell: tuple[str, ...]

    def through(self, stage: ResolvedStage) -> dict[int, Surroundings]:
        return dict(self._through(stage))

    def _through(self, stage: ResolvedStage) -> Iterator[tuple[int, Surroundings]]:
        for instruction in stage.instructions:
            if (instruction.trigger or instruction).keyword in {"RUN", "COPY", "ADD"}:
                yield instruction.line, Surroundings(self.args | self.env, self.shell)
            self.take(instruction)

    def take(self, instruction: Instruction) -> None:
        match instruction.keyword:
            case "SHELL":
                self.shell = instruction.args
            case "ENV":
                before = self.args | self.env  # the values of one ENV do not see each other
                names, values = instruction.args[::2], instruction.args[1::2]
                self.env |= {
                    expand(self.dockerfile, name, before, instruction.line): expand(
                        self.dockerfile, value, before, instruction.line
                    )
                    for name, value in zip(names, values, strict=True)
                }
            case "ARG":
                self._declare(instruction)
            case _:
                pass

    def _declare(self, instruction: Instruction) -> None:
        for argument in arguments(instruction):
            value = self.graph.build_args.get(argument.name)
            if value is None and argument.default is not None:
                value = expand(self.dockerfile, argument.default, self.args | self.env, argument.line)
            if value is None:
                value = self.graph.scope.values.get(argument.name)
            if value is not None:
                self.args[argument.name] = value
