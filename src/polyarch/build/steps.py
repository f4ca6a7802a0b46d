"""buildah's output as steps of the Dockerfile: which stage and instruction runs, and on which line it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from polyarch.dockerfile.model import Dockerfile, Instruction

_STEP = re.compile(r"(?:\[(?P<stage>\d+)/\d+\] )?STEP (?P<step>\d+)/(?P<steps>\d+): (?P<text>.*)")
_CACHED = re.compile(r"--> Using cache [0-9a-f]+")
_IMAGE = re.compile(r"(?:\[\d+/\d+\] )?--> (?:Using cache )?(?P<id>[0-9a-f]{11,64})")


@dataclass(frozen=True, slots=True)
class Step:
    """The instruction that runs: `stage` counts from 0, `step` from 1 (the FROM); `line` is the Dockerfile's."""

    stage: int
    step: int
    steps: int
    text: str
    line: int


def read_step(dockerfile: Dockerfile, line: str) -> Step | None:
    """The step that a line of `buildah build` announces, or None."""
    found = _STEP.fullmatch(line.strip())
    if found is None:
        return None
    stage, step = int(found["stage"] or 1) - 1, int(found["step"])
    instruction = _instruction(dockerfile, stage, step, found["text"])
    if instruction is not None:
        return Step(stage, step, int(found["steps"]), _short(instruction.original), instruction.line)
    known = dockerfile.stages[stage] if stage < len(dockerfile.stages) else None
    text = f"FROM {known.base}" if known and step == 1 else found["text"]
    return Step(stage, step, int(found["steps"]), _short(text), known.line if known else 0)


def is_cached(line: str) -> bool:
    """Whether buildah says that it took the step from its cache."""
    return _CACHED.match(line.strip()) is not None


def read_image(line: str) -> str:
    """The id of the image that a finished step became, perhaps cut short; "" for other lines."""
    found = _IMAGE.fullmatch(line.strip())
    return found["id"] if found else ""


def _instruction(dockerfile: Dockerfile, stage: int, step: int, text: str) -> Instruction | None:
    """By position, if the keyword there agrees; else (ONBUILD steps shift positions) the first that reads alike."""
    if step == 1 or stage >= len(dockerfile.stages):
        return None
    instructions: Sequence[Instruction] = dockerfile.stages[stage].instructions
    keyword = text.split(" ", 1)[0].upper()
    if step - 2 < len(instructions) and instructions[step - 2].keyword == keyword:
        return instructions[step - 2]
    return next((i for i in instructions if _squeeze(i.original) == _squeeze(text)), None)


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _short(text: str, width: int = 90) -> str:
    text = _squeeze(text)
    return text if len(text) <= width else text[: width - 1] + "…"
