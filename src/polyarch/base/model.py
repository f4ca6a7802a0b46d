"""What is known of the image that a FROM or a COPY --from names."""

from __future__ import annotations

from dataclasses import dataclass

from polyarch.arch import Platform
from polyarch.oci.model import RunConfig


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """What a FROM's image is: where it was found, what it offers, and which manifest serves each platform.

    `plain` says that it is one manifest and no index; `config` is one platform's. `problem` is set, and all else empty,
    when it was not found.
    """

    name: str
    where: str = ""
    offered: tuple[tuple[Platform, str], ...] = ()
    plain: bool = False
    config: RunConfig = RunConfig()
    problem: str = ""
    hint: str = ""

    @property
    def on_build(self) -> tuple[str, ...]:
        """The ONBUILD triggers that run first in a stage on this base."""
        return self.config.on_build or ()

    def digest(self, platform: Platform) -> str | None:
        """The digest of the manifest for a platform: an exact match, or an older variant of the same processor."""
        exact = dict(self.offered).get(platform)
        if exact is not None or platform.architecture != "arm":
            return exact
        older = [(p.variant, d) for p, d in self.offered if p.architecture == "arm" and p.variant < platform.variant]
        return max(older)[1] if older else None
