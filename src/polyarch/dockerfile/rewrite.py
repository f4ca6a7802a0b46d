"""The Dockerfile's text for one platform, in which a builder finds exact images and nothing that it cannot read.

buildah pulls what a FROM names for whatever platform it thinks of, and may build stages that are not needed. So each
FROM that counts is written out with its platform and image, stages that do not count are emptied, and here-documents
are lowered. No line moves: the builder's messages keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polyarch.dockerfile.environment import DEFAULT_SHELL, BaseConfig, Surroundings, surroundings
from polyarch.dockerfile.graph import ContextRef, Graph, ImageRef, ResolvedStage, StageRef
from polyarch.dockerfile.lower import GeneratedFile, lower
from polyarch.dockerfile.model import Dockerfile, Instruction, Stage
from polyarch.dockerfile.parse import bad, sources

_LINK = re.compile(r"((?<=\s))--link(?:=\w+)?(?=\s)[^\S\n]?")
_FILES = frozenset({"RUN", "COPY", "ADD"})
_NOWHERE = Surroundings({}, DEFAULT_SHELL)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A Dockerfile for one platform, and the files of the additional build context `lower.CONTEXT`.

    `stages` are those (by index, ascending) that stand in it, if only as an image; others are empty.
    """

    text: str
    files: tuple[GeneratedFile, ...]
    stages: tuple[int, ...] = ()


def pin(
    dockerfile: Dockerfile,
    graph: Graph,
    images: Mapping[int, str],
    *,
    copied: Mapping[str, str] | None = None,
    built: Mapping[int, str] | None = None,
    bases: Mapping[int, BaseConfig] | None = None,
    done: int = 0,
) -> Pinned:
    """Write the file so that it builds the graph's target from exact images.

    `images`: stage index -> the image that its FROM becomes. `copied`: what a `--from=` or a mount's `from=` names, as
    written -> the image to read instead. `built`: stage index -> the image of that whole stage; its instructions are
    left out, and so are stages that only it needs. `bases`: stage index -> config of its base image, for variables in
    here-documents and the shell of RUN ones. `done`: how many of the target stage's first instructions the image in
    `images` has the files of already; of those only what sets something is left. The target becomes the last stage: no
    `--target` is needed. Raises `InputError` with the line of what cannot be written for buildah.
    """
    around = surroundings(dockerfile, graph, bases or {})
    writer = _Writer(dockerfile, dockerfile.text.split("\n"), copied or {}, around)
    needed = _needed(dockerfile, graph, images, built or {}, done)
    for stage in dockerfile.stages:
        if stage.index > graph.target.index:
            writer.put(stage.line, stage.end_line)
            writer.empty(stage)
        elif stage.index not in needed:
            writer.put(stage.line, stage.end_line, _from("", "scratch", stage))
            writer.empty(stage)
        elif built and stage.index in built:
            writer.put(stage.line, stage.end_line, _from(str(needed[stage.index].platform), built[stage.index], stage))
            writer.empty(stage)
        else:
            writer.put(stage.line, stage.end_line, _start(dockerfile, stage, needed[stage.index], images))
            writer.instructions(stage)
            if stage.index == graph.target.index:
                writer.leave_out(stage.instructions[:done])
    return Pinned("\n".join(writer.lines), tuple(writer.files), tuple(sorted(needed)))


def _needed(
    dockerfile: Dockerfile, graph: Graph, images: Mapping[int, str], built: Mapping[int, str], done: int
) -> dict[int, ResolvedStage]:
    """The stages that must stand in the file: one in `built` needs none, one in `images` none to start from."""
    known = {stage.index: stage for stage in graph.stages}
    needed: dict[int, ResolvedStage] = {}
    waiting = [graph.target.index]
    while waiting:
        stage = known[waiting.pop()]
        if stage.index in needed:
            continue
        needed[stage.index] = stage
        below = () if stage.index in built else stage.reads if stage.index in images else stage.needs
        if done and stage is graph.target:
            below = _read_after(dockerfile, stage, done)
        if any(index > stage.index for index in below):
            raise bad(
                dockerfile.name, stage.line, f"stage {stage.label} reads a stage below it, which buildah cannot build",
                "move that stage up",
            )  # fmt: skip
        waiting += below
    return needed


def _read_after(dockerfile: Dockerfile, stage: ResolvedStage, done: int) -> tuple[int, ...]:
    """The stages that the instructions after the first `done` copy or mount from."""
    names = {name for instruction in stage.instructions[done:] for name in sources(instruction)}
    found = (dockerfile.stage_named(name) for name in names)
    return tuple(sorted({other.index for other in found if other is not None and other.index in stage.reads}))


def _start(dockerfile: Dockerfile, stage: Stage, resolved: ResolvedStage, images: Mapping[int, str]) -> str:
    platform = str(resolved.platform)
    if stage.index in images:
        return _from(platform, images[stage.index], stage)
    match resolved.base:
        case ImageRef(name) | ContextRef(name):
            return _from(platform, name, stage)
        case StageRef(index):
            return _from("", dockerfile.stages[index].name, stage)
        case _:
            return _from(platform, "scratch", stage)


def _from(platform: str, image: str, stage: Stage) -> str:
    flag = f"--platform={platform} " if platform else ""
    return f"FROM {flag}{image}{' AS ' + stage.name if stage.name else ''}"


@dataclass
class _Writer:
    """The file's lines, edited in place; an edit never changes their number."""

    dockerfile: Dockerfile
    lines: list[str]
    copied: Mapping[str, str]
    around: Mapping[int, Surroundings]
    files: list[GeneratedFile] = field(default_factory=list)

    def put(self, line: int, end_line: int, *new: str) -> None:
        """Replace the lines `line` to `end_line` (from 1, both included), with empty ones for what is over."""
        span = end_line - line + 1
        self.lines[line - 1 : end_line] = [*new, *[""] * (span - len(new))]

    def empty(self, stage: Stage) -> None:
        """Take a stage's instructions out."""
        for instruction in stage.instructions:
            self.put(instruction.line, instruction.end_line)

    def leave_out(self, instructions: Sequence[Instruction]) -> None:
        """Take those out that make files; what is set (ENV, ARG, USER, …) counts for the instructions that follow."""
        for instruction in instructions:
            if instruction.keyword in _FILES:
                self.put(instruction.line, instruction.end_line)

    def instructions(self, stage: Stage) -> None:
        """Lower here-documents, put exact images in, and take `--link` off (it changes caching, not content)."""
        for instruction in stage.instructions:
            active = instruction.trigger or instruction
            if active.heredocs:
                lowered = lower(self.dockerfile, instruction, self.around.get(instruction.line, _NOWHERE))
                self.put(instruction.line, instruction.end_line, *lowered.lines)
                self.files += lowered.files
            elif active.keyword in {"COPY", "ADD"} and any(flag.startswith("--link") for flag in active.flags):
                self._edit(instruction, _LINK, "")
            for source in sources(active):
                if source in self.copied:
                    self._edit(instruction, _from_of(source), self.copied[source])

    def _edit(self, instruction: Instruction, pattern: re.Pattern[str], new: str) -> None:
        """Replace the first match, all but its first group: flags come first, and each is edited once."""
        for number in range(instruction.line - 1, instruction.end_line):
            self.lines[number], count = pattern.subn(lambda match: match[1] + new, self.lines[number], 1)
            if count:
                return


def _from_of(source: str) -> re.Pattern[str]:
    """`--from=SOURCE` of a COPY, or `from=SOURCE` among the fields of a mount."""
    return re.compile(rf"((?:--|[=,\"'])from=[\"']?){re.escape(source)}(?=[\s,\"']|$)", re.IGNORECASE)
