"""The grafts of one build, before anything is emulated: the native image first, then every platform that can have it.

What cannot be grafted is left to be built, with the reason told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from polyarch.arch import Platform
from polyarch.build import history
from polyarch.build.graft import Grafter, RefusedError
from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared
from polyarch.build.records import keep, kept
from polyarch.build.work import Graft, Work, resume
from polyarch.dockerfile.graph import ImageRef
from polyarch.errors import BuildError, PolyarchError
from polyarch.oci.layout import Layout
from polyarch.plan.model import Strategy
from polyarch.plan.times import Took
from polyarch.report import Event, Sink

Images = dict[Platform, BuiltImage]
Failures = dict[Platform, PolyarchError]
Build = Callable[[Sequence[Work]], Awaitable[tuple[Images, Failures]]]
Fetch = Callable[[Collection[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Transplanted:
    """What the grafts made, what failed for good, and what is left to be built."""

    made: Images = field(default_factory=dict)
    failures: Failures = field(default_factory=dict)
    rest: tuple[Work, ...] = ()


async def transplant(
    prepared: Prepared, missing: Sequence[Work], layout: Layout, show: Sink, build: Build, fetch: Fetch
) -> Transplanted:
    """Graft what may be grafted. `build` makes images of works, `fetch` brings bases (by digest) into the layout."""
    grafts = [item.graft for item in missing if item.graft]
    if not grafts:
        return Transplanted(rest=tuple(missing))
    source = grafts[0].source  # one native platform serves all
    made, failures = await _source(prepared, source, layout, build)
    if source.platform not in prepared.request.platforms:
        failures = {}  # nobody asked for this image: without it, the others are built
    if failures and not prepared.request.keep_going:
        return Transplanted(made, failures)
    await fetch([digest for graft in grafts for digest in graft.bases if digest])
    work = _Transplants(
        prepared, Grafter(layout, prepared.request.docker_format), made.get(source.platform), failures, show
    )
    found = await asyncio.gather(*(work.one(item, item.graft) for item in missing if item.graft))
    done = made | {image.platform: image for image in found if isinstance(image, BuiltImage)}
    left = {item.platform: item for item in found if isinstance(item, Work)}
    over = done.keys() | work.failures.keys()
    rest = tuple(left.get(item.platform, item) for item in missing if item.platform not in over)
    return Transplanted(done, work.failures, rest)


async def _source(prepared: Prepared, source: Work, layout: Layout, build: Build) -> tuple[Images, Failures]:
    image = None if prepared.request.no_cache else kept(layout, source.platform, source.key)
    return ({source.platform: image}, {}) if image else await build([source])


@dataclass
class _Transplants:
    prepared: Prepared
    grafter: Grafter
    source: BuiltImage | None
    failures: Failures
    show: Sink

    async def one(self, item: Work, graft: Graft) -> BuiltImage | Work | None:
        """The grafted image; what is left to be built; None when the platform has failed."""
        subject, started = str(item.platform), time.monotonic()
        try:
            if self.source is None:
                raise BuildError(f"{graft.source.platform} was not built, so it has no layers to give")
            made = await self.grafter.graft(self.source.descriptor, graft.bases, item.platform)
        except PolyarchError as error:
            if graft.forced or not graft.otherwise:
                self.failures[item.platform] = error
                self.show(Event("failed", subject, error.message))
                return None
            self.show(Event("note", subject, f"no graft, so it is built: {error.message}"))
            return await self._rest(item, graft, error)
        keep(item.result_key, made.descriptor)
        for note in made.notes:
            self.show(Event("note", subject, f"the bases differ: {note}"))
        seconds = time.monotonic() - started
        path, label = str(self.prepared.request.dockerfile.absolute()), self.prepared.graph(item.platform).target.label
        history.note(Took(path, label, subject, Strategy.GRAFT, round(seconds, 3)))
        self.show(Event("done", subject, f"grafted from {graft.source.platform} in {seconds:.1f} s"))
        return BuiltImage(item.platform, made.descriptor, reused=False, seconds=seconds, grafted=True)

    async def _rest(self, item: Work, graft: Graft, error: PolyarchError) -> Work:
        """The work that is left: from the first bound layer on, where the layers before it can be taken over."""
        target = self.prepared.graph(item.platform).target
        direct = isinstance(target.base, ImageRef) and not target.triggers
        if self.source is None or not isinstance(error, RefusedError) or not direct:
            return item
        steps = len(target.instructions)
        prefix = await self.grafter.prefix(self.source.descriptor, graft.bases, item.platform, error.free, steps)
        if prefix is None:
            return item
        text = f"{error.free} layers of {graft.source.platform} are taken over, and the rest is built on them"
        self.show(Event("note", str(item.platform), text))
        return resume(self.prepared, item, prefix.descriptor.digest, prefix.done)
