"""The plan as data: what goes into the planner, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from polyarch.arch import Platform


class Strategy(StrEnum):
    """The ways of DESIGN.md in the order of their cost.

    This processor, the layers that it made, its work for another one (a stage that is pinned to it), another machine,
    an emulator.
    """

    NATIVE = "native"
    GRAFT = "graft"
    CROSS = "cross"
    NODE = "node"
    EMULATE = "emulate"


class Fault(StrEnum):
    """What kind of thing stands in the way; decides the exit code (2 for the input, 4 for the machine)."""

    INPUT = "input"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A way that was not taken, and why."""

    strategy: Strategy
    reason: str


@dataclass(frozen=True, slots=True)
class Detail:
    """What is told of a stage beside its way.

    `below` are the labels of the stages that it is made of, `shared` that it is the same for every platform, `needs`
    what must be there. `seconds` is the expected time, None where nothing is known; `basis` says where that is from.
    """

    needs: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    shared: bool = False
    seconds: float | None = None
    basis: str = ""
    refused: tuple[Refusal, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "needs": list(self.needs),
            "stages": list(self.below),
            "shared": self.shared,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "basis": self.basis,
            "refused": {str(refusal.strategy): refusal.reason for refusal in self.refused},
        }


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage on one target platform: how its programs run, and why.

    `otherwise` is the way that is taken when the proof of a graft fails; None where there is none.
    """

    index: int
    label: str
    platform: Platform
    base: str
    strategy: Strategy
    reason: str
    otherwise: Strategy | None = None
    detail: Detail = Detail()

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "stage": self.label,
            "platform": str(self.platform),
            "base": self.base,
            "strategy": str(self.strategy),
            "reason": self.reason,
            "otherwise": self.otherwise and str(self.otherwise),
            **self.detail.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a platform cannot be built: where in the Dockerfile (line 0: nowhere), and what to do."""

    fault: Fault
    line: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class GraftPlan:
    """Whose image gives its layers; `base` is the image (as the Dockerfile names it) that they stand on, "" for none.

    `forced`: the user wants nothing else. `otherwise`: this machine can build the platform, too.
    """

    source: Platform
    base: str
    forced: bool
    otherwise: bool


@dataclass(frozen=True, slots=True)
class NodePlan:
    """The nodes that may build a platform. `forced`: nothing else is wanted. `otherwise`: this machine can, too."""

    names: tuple[str, ...]
    forced: bool
    otherwise: bool


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """One target platform: its stages in order, and what stands in the way.

    `graft` is set when layers are to be taken over from an image for another platform; what is built is built on a node
    where `node` is set. `warnings` are of what is built all the same.
    """

    platform: Platform
    stages: tuple[StagePlan, ...]
    problems: tuple[Problem, ...]
    graft: GraftPlan | None = None
    warnings: tuple[Problem, ...] = ()
    node: NodePlan | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """A stage that could be pinned: where its FROM stands, `certain` or `likely`, and why."""

    stage: str
    line: int
    confidence: str
    reason: str


@dataclass(frozen=True, slots=True)
class PinPatch:
    """All stages that could be pinned, and a unified diff of the Dockerfile that pins them; "" when there are none."""

    pins: tuple[Pin, ...] = ()
    diff: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        pins = [
            {"stage": pin.stage, "line": pin.line, "confidence": pin.confidence, "reason": pin.reason}
            for pin in self.pins
        ]
        return {"pins": pins, "diff": self.diff}


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The whole plan, a platform after another in the order they were asked for.

    `pinnable` are the stages that would be emulated, and need not be if the Dockerfile pinned them.
    """

    dockerfile: str
    host: Platform
    platforms: tuple[PlatformPlan, ...]
    pinnable: PinPatch = PinPatch()

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not any(entry.problems for entry in self.platforms)

    def stage(self, platform: Platform, index: int) -> StagePlan | None:
        """The plan of one stage of a target; None for what is not asked for."""
        stages = (s for entry in self.platforms if entry.platform == platform for s in entry.stages)
        return next((stage for stage in stages if stage.index == index), None)

    def way(self, platform: Platform, index: int) -> Strategy:
        """How a stage is built when it is built here: where a graft or a node failed, the other way."""
        stage = self.stage(platform, index)
        if stage is None:  # the native build that only gives its layers
            return Strategy.NATIVE
        if stage.strategy in {Strategy.GRAFT, Strategy.NODE}:
            return Strategy.NATIVE if stage.platform == self.host else Strategy.EMULATE
        return stage.strategy

    def as_dict(self) -> dict[str, Any]:
        """The plan as `--json` prints it."""
        return {
            "dockerfile": self.dockerfile,
            "host": str(self.host),
            "ok": self.ok,
            "platforms": [_entry(entry) for entry in self.platforms],
            "pinnable": self.pinnable.as_dict(),
        }


def _entry(entry: PlatformPlan) -> dict[str, Any]:
    return {
        "platform": str(entry.platform),
        "stages": [stage.as_dict() for stage in entry.stages],
        "problems": [
            {"kind": str(p.fault), "line": p.line, "message": p.message, "hint": p.hint} for p in entry.problems
        ],
        "warnings": [{"line": p.line, "message": p.message, "hint": p.hint} for p in entry.warnings],
    }
