"""Where a pinned stage would execute a program of the target platform, as far as the Dockerfile shows it. Pure.

Warnings, not refusals: what is executed may be a script, and an emulator may happen to be registered.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from polyarch.dockerfile.graph import Graph, ResolvedStage
from polyarch.dockerfile.model import Instruction
from polyarch.plan.commands import commands
from polyarch.plan.model import Fault, Problem

_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_GOARCH = re.compile(r"\bGOARCH[= ][\"']?\$\{?TARGETARCH\b")
_CROSS_COMPILER = re.compile(r"^[\w.]+-linux-gnu\w*-(gcc|g\+\+|cc|c\+\+|ld)(-\d+)?$")


@dataclass(frozen=True, slots=True)
class _Source:
    """How a foreign file came into the stage."""

    line: int
    how: str
    hint: str


def warnings(graph: Graph) -> tuple[Problem, ...]:
    """Each RUN of a stage on the build platform that names a program which is the target's."""
    if graph.target_platform == graph.build_platform:
        return ()
    native = [stage for stage in graph.stages if stage.executes and stage.platform == graph.build_platform]
    return tuple(warning for stage in native for warning in _Walk(graph, stage).warnings())


@dataclass
class _Walk:
    """One pass through a stage: where it stands, what in it is foreign."""

    graph: Graph
    stage: ResolvedStage
    folder: str = "/"
    go: bool = False
    foreign: dict[str, _Source] = field(default_factory=dict)

    def warnings(self) -> Iterator[Problem]:
        for instruction in self.stage.instructions:
            match instruction.keyword:
                case "WORKDIR":
                    self.folder = self._at(instruction.args[0])
                case "ENV":
                    self.go = self.go or bool(_GOARCH.search(instruction.original))
                case "COPY":
                    self._copied(instruction)
                case "RUN":
                    yield from self._run(instruction)
                case _:
                    pass

    def _copied(self, copy: Instruction) -> None:
        """What comes from a stage or an image of the target platform."""
        name = copy.flag("from")
        told = self._foreign_source(name) if name else None
        if told is None:
            return
        how, hint = told
        *taken, to = copy.args
        into = to.endswith("/") or len(taken) > 1 or self._at(to) in _PATH
        for path in taken:
            place = posixpath.join(self._at(to), posixpath.basename(path.rstrip("/"))) if into else self._at(to)
            self.foreign[place] = _Source(copy.line, f"copied from {how}", hint)

    def _foreign_source(self, name: str) -> tuple[str, str] | None:
        if name in self.stage.images:
            hint = f"give the image a stage: FROM --platform=$BUILDPLATFORM {name} AS tools, and copy from that"
            return f"the {self.graph.target_platform} image {name}", hint
        for other in self.graph.stages:
            if name.lower() in {other.name, str(other.index)} and other.platform == self.graph.target_platform:
                hint = f"pin stage {other.label} to $BUILDPLATFORM, too, or run it in a stage of the target's platform"
                return f"stage {other.label}, which is {other.platform}", hint
        return None

    def _run(self, run: Instruction) -> Iterator[Problem]:
        go = self.go or bool(_GOARCH.search(run.original))
        for words in commands(run) or ():
            if words[0] == "cd" and len(words) == 2:
                continue  # relative paths after it are not followed
            program = self._program(words[0])
            if program is not None:
                yield self._warning(run, words[0], self.foreign[program])
            made = self._compiled(words, go)
            if made is not None:
                hint = "run it in a stage of the target's platform, or compile another one for the build machine"
                self.foreign[made] = _Source(run.line, "compiled for it", hint)

    def _program(self, word: str) -> str | None:
        """The foreign file that a command's first word executes: itself, in a copied folder, or found on PATH."""
        if "/" not in word:
            return next((path for folder in _PATH if (path := f"{folder}/{word}") in self.foreign), None)
        path = self._at(word)
        above = (path, *(path[:at] for at in range(len(path) - 1, 0, -1) if path[at] == "/"))
        return next((known for known in above if known in self.foreign), None)

    def _compiled(self, words: tuple[str, ...], go: bool) -> str | None:
        """What a cross-compiling command writes with `-o`."""
        rest = words[1:] if words[0] == "cross-env" else words
        cross = (
            words[0] == "cross-env" or bool(_CROSS_COMPILER.match(words[0])) or (go and words[:2] == ("go", "build"))
        )
        if not cross or "-o" not in rest[:-1]:
            return None
        return self._at(rest[rest.index("-o") + 1])

    def _at(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.folder, path))

    def _warning(self, run: Instruction, word: str, source: _Source) -> Problem:
        message = (
            f"stage {self.stage.label} runs {self.stage.platform} programs, but this RUN executes {word}, which is"
            f" {self.graph.target_platform}'s: {source.how} in line {source.line}"
        )
        return Problem(Fault.INPUT, run.line, message, source.hint)
