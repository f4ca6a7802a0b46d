"""What a build is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyarch.arch import Platform
from polyarch.emulation.dispatcher.counts import Counts
from polyarch.oci.model import Descriptor
from polyarch.oci.reference import Reference
from polyarch.plan.planner import Wishes


@dataclass(frozen=True, slots=True)
class Request:
    """One `polyarch build`: flag names as in docker buildx and podman. Secrets are `id=…,src=…` and never read here.

    `contexts` are additional build contexts: name and absolute folder. `ssh` are agents or keys as in `--ssh`.
    """

    context: Path
    dockerfile: Path
    platforms: tuple[Platform, ...]
    tags: tuple[Reference, ...] = ()
    build_args: tuple[tuple[str, str], ...] = ()
    target: str = ""
    secrets: tuple[str, ...] = ()
    contexts: tuple[tuple[str, Path], ...] = ()
    ssh: tuple[str, ...] = ()
    docker_format: bool = False
    no_cache: bool = False
    keep_going: bool = False
    tls_verify: bool = True
    wishes: Wishes = Wishes()
    prove_graft: bool = False
    accelerate: bool = True
    prove_acceleration: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """One platform's image in the layout; `reused` when an earlier build of the same inputs had made it.

    `seconds` is how long it took this time, `grafted` says that its layers were taken over from another platform's,
    `node` names the machine that built it ("" for this one); `programs` what an accelerated build started.
    """

    platform: Platform
    descriptor: Descriptor
    reused: bool
    seconds: float
    log: Path | None = field(default=None)
    grafted: bool = False
    node: str = ""
    programs: Counts | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "platform": str(self.platform),
            "digest": self.descriptor.digest,
            "reused": self.reused,
            "grafted": self.grafted,
            "node": self.node or None,
            "seconds": round(self.seconds, 3),
            "log": str(self.log) if self.log else None,
            "programs": self.programs.as_dict() if self.programs else None,
        }
