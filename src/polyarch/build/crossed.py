"""Stages that run here for platforms that are built on nodes: made once, and handed over as images by their digests."""

from __future__ import annotations

import asyncio
import hashlib

from polyarch.arch import Platform
from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared
from polyarch.build.records import kept
from polyarch.build.transplant import Build
from polyarch.build.work import StageWork, Work
from polyarch.oci.layout import Layout


class Crossed:
    """The cross-built stages of one command; `build` makes works on this machine."""

    def __init__(self, prepared: Prepared, layout: Layout, build: Build) -> None:
        self._prepared = prepared
        self._layout = layout
        self._build = build
        self._made: dict[str, BuiltImage] = {}
        self._lock = asyncio.Lock()

    async def of(self, item: Work) -> dict[str, str]:
        """Key -> manifest of each stage of a work that is pinned to this machine and that a stage on the node reads.

        Raises what building them raises.
        """
        wanted = {key for stage in item.stages if not self._is_cross(item, stage) for key in stage.needs}
        async with self._lock:
            found = {
                stage.key: await self._image(item, stage)
                for stage in item.stages
                if stage.key in wanted and self._is_cross(item, stage)
            }
        return {key: image.descriptor.digest for key, image in found.items()}

    def _is_cross(self, item: Work, stage: StageWork) -> bool:
        """Only what executes something need run here."""
        resolved = self._prepared.graph(item.platform).stage(stage.index)
        return resolved.executes and resolved.platform == self._prepared.plan.host != item.platform

    async def _image(self, item: Work, stage: StageWork) -> BuiltImage:
        if stage.key not in self._made:
            part = _part(item, stage, self._prepared.plan.host)
            image = None if self._prepared.request.no_cache else kept(self._layout, part.platform, part.key)
            if image is None:
                made, failures = await self._build([part])
                for error in failures.values():
                    raise error
                image = made[part.platform]
            self._made[stage.key] = image
        return self._made[stage.key]


def _part(item: Work, stage: StageWork, host: Platform) -> Work:
    """The work that ends with this stage; its image states the platform that the stage is pinned to."""
    stages = item.stages[: item.stages.index(stage) + 1]
    return Work(host, stages, hashlib.sha256(f"cross {stage.key}".encode()).hexdigest())
