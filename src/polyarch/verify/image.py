"""One image as it is judged: what it claims to be, and the documents that claim it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from polyarch.arch import ARCHES, Arch, Platform
from polyarch.oci.model import Descriptor, ImageConfig, Manifest

ALLOW_ANNOTATION: Final = "io.polyarch.verify.allow"


@dataclass(frozen=True)
class Image:
    """A manifest that was read.

    `platform` is what the descriptor states, else what the config states; `listed` means that an index names it.
    """

    kind: Literal["image", "attestation", "artifact"]
    platform: Platform | None
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig | None = None
    allow: tuple[str, ...] = ()
    listed: bool = False

    @property
    def label(self) -> str:
        """The platform as reports name it, "" when nobody states one."""
        return "unknown/unknown" if self.kind == "attestation" else str(self.platform or "")

    @property
    def arch(self) -> Arch | None:
        """The row of the table, or None when it has none for this platform."""
        if self.platform is None or self.platform.os != "linux":
            return None
        exact = ARCHES.get(self.platform)
        # amd64/v2 and the like are no rows of their own.
        return exact or next((a for p, a in ARCHES.items() if p.architecture == self.platform.architecture), None)


class Allowed:
    """Globs of paths that are allowed to be foreign: what they match and all below it; `*` matches slashes too."""

    def __init__(self, globs: Iterable[str]) -> None:
        wanted = [glob.strip().strip("/") for glob in globs if glob.strip()]
        patterns = [fnmatch.translate(glob + below) for glob in wanted for below in ("", "/*")]
        self._match = re.compile("|".join(patterns)).match if patterns else None

    def __call__(self, path: str) -> bool:
        """Whether a path, relative to the root, is allowed."""
        return self._match is not None and self._match(path) is not None


def allowances(sources: Sequence[dict[str, str] | None]) -> tuple[str, ...]:
    """The globs that annotations and labels of an image state."""
    texts = [source[ALLOW_ANNOTATION] for source in sources if source and ALLOW_ANNOTATION in source]
    return tuple(glob.strip() for text in texts for glob in text.split(",") if glob.strip())
