"""A Dockerfile as it is written: nothing expanded, nothing resolved for a platform."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One here-document of a RUN, COPY or ADD.

    `content` is as in the file; with `chomp` (`<<-`) the builder takes the leading tabs off, with `expand` (the
    terminator has no quotes) COPY and ADD replace variables in it.
    """

    name: str
    content: str
    chomp: bool
    expand: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; lines count from 1, `original` has its continuation lines joined.

    `args` are as BuildKit's parser splits them, quotes and variables kept; those of ENV and LABEL are pairs, flattened
    (`("A", "1", "B", "2")`). `flags` keep their dashes and have lost their quotes. `json` says that `args` were
    written as a JSON array. An ONBUILD has no arguments of its own: `trigger` is what it puts off.
    """

    keyword: str
    args: tuple[str, ...]
    flags: tuple[str, ...]
    json: bool
    heredocs: tuple[Heredoc, ...]
    line: int
    end_line: int
    original: str
    trigger: Instruction | None = None

    def flag(self, name: str) -> str:
        """The value of `--name=value`; "" where the flag is absent."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.partition("=")[0] == f"--{name}"), "")


@dataclass(frozen=True, slots=True)
class Mount:
    """A `RUN --mount`; `kind` is bind, cache, secret, ssh or tmpfs, `source` the stage, image or context of `from=`."""

    kind: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One name of an ARG; `default` is None where it has none."""

    name: str
    default: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next. `name` is in lower case, "" where there is none; `base` and `platform` unexpanded."""

    index: int
    name: str
    base: str
    platform: str
    instructions: tuple[Instruction, ...]
    line: int
    end_line: int

    @property
    def label(self) -> str:
        """How messages and plans call the stage: its name, else BuildKit's `stage-N`."""
        return self.name or f"stage-{self.index}"


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file. `name` is what messages call it, `args` the global ARGs in order; `stages` is never empty.

    `escape` is the escape token, a backslash or a backtick.
    """

    name: str
    text: str
    args: tuple[Argument, ...]
    stages: tuple[Stage, ...]
    escape: str

    def stage_named(self, name: str) -> Stage | None:
        """The stage that `name` means in COPY --from and --target: the last of that name, in any case, or a number."""
        if name.isascii() and name.isdecimal():
            return self.stages[int(name)] if len(name) < 9 and int(name) < len(self.stages) else None
        return next((stage for stage in reversed(self.stages) if name and stage.name == name.lower()), None)
