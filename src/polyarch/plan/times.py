"""How long a stage will take, from how long stages took here before. Pure: the records were read at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from polyarch.plan.model import Strategy


@dataclass(frozen=True, slots=True)
class Took:
    """One stage that was built from its first step on: in `seconds`, for a platform, in one way.

    `dockerfile` is the file's whole path. A cross-built stage is a native one; a graft is told of the target stage.
    """

    dockerfile: str
    stage: str
    platform: str
    way: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds, or None where nothing is known, and where they are from."""

    seconds: float | None = None
    basis: str = ""


def expected(history: Sequence[Took], dockerfile: str, stage: str, platform: str, strategy: Strategy) -> Expected:
    """The last time that the very stage took; else what it took in another way, times the usual ratio of the two."""
    way = way_of(strategy)
    same = [took for took in history if (took.dockerfile, took.stage) == (dockerfile, stage)]
    exact = [took.seconds for took in same if (took.platform, took.way) == (platform, way)]
    if exact:
        return Expected(exact[-1], "the last build of this stage here")
    native = [took.seconds for took in same if took.way == "native"]
    if way == "native" and native:
        return Expected(native[-1], "its last native build here")
    ratio = emulation_ratio(history)
    if way == "emulate" and native and ratio:
        return Expected(native[-1] * ratio, f"{native[-1]:.1f} s natively, times {ratio:.1f} as other stages here")
    return Expected()


def emulation_ratio(history: Sequence[Took]) -> float | None:
    """How many times longer emulated stages took than the same ones natively: the median here; None without a pair."""
    latest = {(took.dockerfile, took.stage, took.platform, took.way): took.seconds for took in history}
    native = {(dockerfile, stage): t for (dockerfile, stage, _, way), t in latest.items() if way == "native" and t > 0}
    ratios = [
        seconds / native[dockerfile, stage]
        for (dockerfile, stage, _, way), seconds in latest.items()
        if way == "emulate" and (dockerfile, stage) in native
    ]
    return median(ratios) if ratios else None


def way_of(strategy: Strategy) -> str:
    """What a strategy is in the records."""
    return "native" if strategy in {Strategy.NATIVE, Strategy.CROSS} else str(strategy)
