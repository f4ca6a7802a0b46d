"""The edits that pin a stage of a Dockerfile to the build platform, line by line. Pure.

A Go compiler is told its target by variables. C goes through the scripts of the build context `polyarch-toolchain`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from polyarch.dockerfile.grammar import arguments
from polyarch.dockerfile.graph import ResolvedStage
from polyarch.dockerfile.model import Instruction
from polyarch.plan.commands import commands
from polyarch.toolchain.context import NAME as TOOLCHAIN

_FROM = re.compile(r"^(\s*FROM\s+)", re.IGNORECASE)
_GO_BUILD = re.compile(r"(?<![\w./-])go(?=\s+build\b)")
_GOARCH = re.compile(r"\bGOARCH\b")
_BLANK = r"(?:[ \t]|\\\n)"
# Where a command starts, and the assignments in front of it.
_START = rf"(?P<before>(?:\bRUN(?:{_BLANK}+--\S+)*|&&|\|\||;){_BLANK}*(?:\w+=\S*{_BLANK}+)*)"
_APT = re.compile(rf"{_START}apt-get(?P<options>(?:{_BLANK}+-\S+)*){_BLANK}+install\b")
_TOOL = re.compile(rf"{_START}(?P<tool>make|cmake)(?=\s|$)")


def pin_go(lines: list[str], stage: ResolvedStage) -> None:
    """Pin a stage, and have its `go build`s compile for the target."""
    if not any(_GOARCH.search(instruction.original) for instruction in stage.instructions):
        builds = list(_runs(stage, ("go", "build")))
        for build in builds:
            for number in range(build.line - 1, build.end_line):
                lines[number] = _GO_BUILD.sub("GOOS=$TARGETOS GOARCH=$TARGETARCH go", lines[number])
        _declare(lines, stage, ("TARGETOS", "TARGETARCH"), builds[0])
    pin(lines, stage)


def pin_c(lines: list[str], stage: ResolvedStage) -> None:
    """Pin a stage, and have it install and compile through the toolchain's scripts."""
    installs = list(_runs(stage, ("apt-get", "install")))
    for run in stage.instructions:
        if run.keyword == "RUN":
            text = "\n".join(lines[run.line - 1 : run.end_line])
            text = _APT.sub(r"\g<before>cross-apt install\g<options>", text)
            text = _TOOL.sub(r"\g<before>cross-env \g<tool>", text)
            lines[run.line - 1 : run.end_line] = text.split("\n")
    _declare(lines, stage, ("TARGETPLATFORM",), installs[0])
    lines.insert(installs[0].line - 1, f"COPY --from={TOOLCHAIN} / /")
    pin(lines, stage)


def pin(lines: list[str], stage: ResolvedStage) -> None:
    """Pin a stage whose commands may stay as they are."""
    lines[stage.line - 1] = _FROM.sub(lambda found: f"{found[1]}--platform=$BUILDPLATFORM ", lines[stage.line - 1])


def reaches_c(stage: ResolvedStage) -> bool:
    """Whether `pin_c` finds all commands that it must change."""
    told = [c for run in stage.instructions if run.keyword == "RUN" for c in commands(run) or ()]
    text = "\n".join(run.original for run in stage.instructions if run.keyword == "RUN")
    installs = sum(1 for words in told if words[0] == "apt-get" and "install" in words)
    tools = sum(1 for words in told if words[0] in {"make", "cmake"})
    return 0 < installs == len(_APT.findall(text)) and tools == len(_TOOL.findall(text))


def _runs(stage: ResolvedStage, start: Iterable[str]) -> Iterator[Instruction]:
    """The RUNs with a command that starts so, options apart."""
    wanted = tuple(start)
    for instruction in stage.instructions:
        if instruction.keyword == "RUN":
            plain = [tuple(word for word in c if not word.startswith("-")) for c in commands(instruction) or ()]
            if any(words[: len(wanted)] == wanted for words in plain):
                yield instruction


def _declare(lines: list[str], stage: ResolvedStage, names: Iterable[str], before: Instruction) -> None:
    declared = {a.name for i in stage.instructions if i.keyword == "ARG" for a in arguments(i)}
    missing = [name for name in names if name not in declared]
    if missing:
        lines.insert(before.line - 1, f"ARG {' '.join(missing)}")
