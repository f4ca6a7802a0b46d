"""Run the work: platforms side by side, each with its log; what finishes is kept, the name changes only at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from polyarch.arch import Platform
from polyarch.base import resolve as bases
from polyarch.build.accelerate import accelerate
from polyarch.build.builder import Builder
from polyarch.build.compare import demand_same
from polyarch.build.crossed import Crossed
from polyarch.build.engine import Builds, open_engine
from polyarch.build.graft import load
from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared
from polyarch.build.records import kept
from polyarch.build.transplant import Failures, Images, transplant
from polyarch.build.work import Work
from polyarch.errors import PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.oci.made import media_types
from polyarch.oci.model import Document, Index, document
from polyarch.report import Event, Sink
from polyarch.verify.promise import promised


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of each platform; `index` only when all of them are there."""

    images: tuple[BuiltImage, ...]
    failures: Mapping[Platform, PolyarchError]
    index: Document | None


async def execute(prepared: Prepared, todo: Sequence[Work], facts: Facts, layout: Layout, show: Sink) -> Outcome:
    """Build what no earlier build of the same inputs has left; needs a plan without problems.

    Without `keep_going` the first failure cancels the others. Nothing is tagged here.
    """
    fresh = prepared.request.no_cache
    done = {} if fresh else {w.platform: image for w in todo if (image := kept(layout, w.platform, w.result_key))}
    for platform in done:
        show(Event("done", str(platform), "nothing changed: kept"))
    missing = [w for w in todo if w.platform not in done]
    failures: Failures = {}
    if missing:
        made, failures = await _make(prepared, missing, facts, layout, show)
        done |= made
    images = tuple(done[w.platform] for w in todo if w.platform in done)
    index = _index(images, prepared.request.docker_format) if len(images) == len(todo) else None
    return Outcome(images, failures, index)


async def prove_grafts(
    prepared: Prepared, todo: Sequence[Work], outcome: Outcome, facts: Facts, layout: Layout, show: Sink
) -> None:
    """Build what has grafted layers by emulation, too, and compare. Raises `ProofError`, or what the build raises."""
    grafted = {
        image.platform: image for image in outcome.images if promised(load(layout, image.descriptor.digest).manifest)
    }
    works = {w.platform: replace(w, graft=None) for w in todo if w.platform in grafted}
    bases_of = {w.platform: w.graft.bases[1] for w in todo if w.graft}
    built = (
        {} if prepared.request.no_cache else {p: found for p, w in works.items() if (found := kept(layout, p, w.key))}
    )
    missing = [work for platform, work in works.items() if platform not in built]
    if missing:
        made, failures = await _build_missing(prepared, missing, facts, layout, show, set())
        for error in failures.values():
            raise error
        built |= made
    for platform, image in grafted.items():
        pair = image.descriptor, built[platform].descriptor
        same = await asyncio.to_thread(demand_same, layout, *pair, bases_of[platform], platform)
        show(Event("done", str(platform), f"the emulated build is the same in all {same} paths"))


async def _make(
    prepared: Prepared, missing: Sequence[Work], facts: Facts, layout: Layout, show: Sink
) -> tuple[Images, Failures]:
    """Grafts first, for they are cheap; then everything else side by side."""
    done: set[str] = set()

    async def here(works: Sequence[Work]) -> tuple[Images, Failures]:
        return await _build_missing(prepared, works, facts, layout, show, done)

    async def there(engine: Builds, item: Work, tell: Sink) -> tuple[Images, Failures]:
        try:
            given = await crossed.of(item)
        except PolyarchError as error:
            return {}, {item.platform: error}
        return await Builder(prepared, engine, tell, fetch, set(), node=True, given=given).all([item])

    async def fetch(digests: Collection[str]) -> None:
        await _fetch_bases(prepared, layout, digests)

    build, crossed = here, Crossed(prepared, layout, here)
    if any(entry.node for entry in prepared.plan.platforms):
        from polyarch.build.onnodes import NodeBuilds  # asyncssh is not worth its start-up time without nodes

        build = NodeBuilds(prepared, layout, show, there, here).build
    found = await transplant(prepared, missing, layout, show, build, fetch)
    if not found.rest or (found.failures and not prepared.request.keep_going):
        return found.made, found.failures
    made, failures = await build(found.rest)
    return found.made | made, found.failures | failures


async def _build_missing(
    prepared: Prepared, missing: Sequence[Work], facts: Facts, layout: Layout, show: Sink, done: set[str]
) -> tuple[Images, Failures]:
    """Build side by side; `done` are the keys of stages that this very command has built here, and gets more."""

    async def fetch(digests: Collection[str]) -> None:
        await _fetch_bases(prepared, layout, digests)

    stages = [stage for item in missing for stage in prepared.graph(item.platform).stages if stage.executes]
    platforms = list(dict.fromkeys(stage.platform for stage in stages))
    acceleration = await accelerate(prepared, platforms, facts, layout, show) if prepared.request.accelerate else None
    with open_engine(layout, facts, platforms, acceleration) as engine:
        return await Builder(prepared, engine, show, fetch, done).all(missing)


async def _fetch_bases(prepared: Prepared, layout: Layout, digests: Collection[str]) -> None:
    """Bring remote bases into the layout, each for the platforms that need it."""
    for answer in prepared.bases.values():
        platforms = [platform for platform, digest in answer.offered if digest in digests]
        await bases.fetch(layout, answer, platforms, tls_verify=prepared.request.tls_verify)


def _index(images: Sequence[BuiltImage], docker_format: bool) -> Document:
    entries = tuple(image.descriptor for image in images)
    return document(Index(schema_version=2, media_type=media_types(docker_format).index, manifests=entries))
