"""The plan as data: what goes into the planner, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from polyarch.arch import Platform


class Strategy(StrEnum):
    """The ways of DESIGN.md that stand: run on this processor, or under a user-mode emulator."""

    NATIVE = "native"
    EMULATE = "emulate"


class Fault(StrEnum):
    """What kind of thing stands in the way; decides the exit code (2 for the input, 4 for the machine)."""

    INPUT = "input"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage on one target platform: how its programs run, and why."""

    index: int
    label: str
    platform: Platform
    base: str
    strategy: Strategy
    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a platform cannot be built: where in the Dockerfile (line 0: nowhere), and what to do."""

    fault: Fault
    line: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """One target platform: its stages in order, and what stands in the way."""

    platform: Platform
    stages: tuple[StagePlan, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The whole plan, a platform after another in the order they were asked for."""

    dockerfile: str
    host: Platform
    platforms: tuple[PlatformPlan, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not any(entry.problems for entry in self.platforms)

    def as_dict(self) -> dict[str, Any]:
        """The plan as `--json` prints it."""
        return {
            "dockerfile": self.dockerfile,
            "host": str(self.host),
            "ok": self.ok,
            "platforms": [_entry(entry) for entry in self.platforms],
        }


def _entry(entry: PlatformPlan) -> dict[str, Any]:
    return {
        "platform": str(entry.platform),
        "stages": [
            {
                "stage": stage.label,
                "platform": str(stage.platform),
                "base": stage.base,
                "strategy": str(stage.strategy),
                "reason": stage.reason,
            }
            for stage in entry.stages
        ],
        "problems": [
            {"kind": str(p.fault), "line": p.line, "message": p.message, "hint": p.hint} for p in entry.problems
        ],
    }
