"""Run the work: platforms side by side, each with its log; what finishes is kept, the name changes only at the end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polyarch import places
from polyarch.arch import Platform
from polyarch.base import resolve as bases
from polyarch.build.accelerate import accelerate
from polyarch.build.compare import demand_same
from polyarch.build.culprit import find
from polyarch.build.engine import BuildArgs, Builds, open_engine
from polyarch.build.failure import explain, stage_platform
from polyarch.build.graft import hand_on, load
from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared, Work, toolchain_files
from polyarch.build.records import keep, kept
from polyarch.build.steps import Step, is_cached, read_image, read_step
from polyarch.build.transplant import Failures, Images, transplant
from polyarch.dockerfile.context import ignore_file
from polyarch.errors import BuildError, PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.oci.model import DOCKER_LIST, OCI_INDEX, Document, Index, document
from polyarch.report import Event, Sink
from polyarch.verify.promise import promised

_KEPT_LOGS = 20


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
        made, failures = await _build_missing(prepared, missing, facts, layout, show)
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

    async def here(works: Sequence[Work]) -> tuple[Images, Failures]:
        return await _build_missing(prepared, works, facts, layout, show)

    async def there(engine: Builds, item: Work, tell: Sink) -> tuple[Images, Failures]:
        await fetch(item.base_digests)
        return await _Builder(prepared, engine, tell, _log_folder()).all([item])

    async def fetch(digests: Collection[str]) -> None:
        await _fetch_bases(prepared, layout, digests)

    build = here
    if any(entry.node for entry in prepared.plan.platforms):
        from polyarch.build.onnodes import NodeBuilds  # asyncssh is not worth its start-up time without nodes

        build = NodeBuilds(prepared, layout, show, there, here).build
    found = await transplant(prepared, missing, layout, show, build, fetch)
    if not found.rest or (found.failures and not prepared.request.keep_going):
        return found.made, found.failures
    made, failures = await build(found.rest)
    return found.made | made, found.failures | failures


async def _build_missing(
    prepared: Prepared, missing: Sequence[Work], facts: Facts, layout: Layout, show: Sink
) -> tuple[Images, Failures]:
    await _fetch_bases(prepared, layout, {digest for item in missing for digest in item.base_digests})
    stages = [stage for item in missing for stage in prepared.graph(item.platform).stages if stage.executes]
    platforms = list(dict.fromkeys(stage.platform for stage in stages))
    acceleration = await accelerate(prepared, platforms, facts, layout, show) if prepared.request.accelerate else None
    with open_engine(layout, facts, platforms, acceleration) as engine:
        return await _Builder(prepared, engine, show, _log_folder()).all(missing)


class _Builder:
    """The platforms of one build; holds what they share and what became of them."""

    def __init__(self, prepared: Prepared, engine: Builds, show: Sink, logs: Path) -> None:
        self._prepared = prepared
        self._engine = engine
        self._show = show
        self._logs = logs
        self._free = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._made: dict[Platform, BuiltImage] = {}
        self._failures: dict[Platform, PolyarchError] = {}

    async def all(self, todo: Sequence[Work]) -> tuple[dict[Platform, BuiltImage], dict[Platform, PolyarchError]]:
        """Build them side by side."""
        await self._engine.import_bases(digest for item in todo for digest in item.base_digests)
        tasks = [asyncio.create_task(self._guarded(item)) for item in todo]
        pending = set(tasks)
        try:
            while pending:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if self._failures and not self._prepared.request.keep_going:
                    break
        finally:
            for task in pending:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self._made, self._failures

    async def _guarded(self, item: Work) -> None:
        subject = str(item.platform)
        async with self._free:
            try:
                self._made[item.platform] = await self._one(item)
            except asyncio.CancelledError:
                self._show(Event("cancelled", subject, "cancelled"))
                raise
            except PolyarchError as error:
                self._failures[item.platform] = error
                self._show(Event("failed", subject, error.message))

    async def _one(self, item: Work) -> BuiltImage:
        started = time.monotonic()
        log = self._logs / f"{item.platform.slug}.log"
        watcher = _Watcher(self._prepared, item.platform, self._show)
        self._show(Event("start", str(item.platform), f"building, log {log}"))
        with log.open("a", encoding="utf-8") as file:  # another node's try may be in it
            try:
                image = await self._engine.build(self._arguments(item), watcher, file)
            except BuildError as error:
                runs = stage_platform(self._prepared, item.platform, watcher.step)
                culprit = await asyncio.to_thread(find, self._engine, error.detail, runs, watcher.image)
                raise explain(error, self._prepared, item.platform, watcher.step, log, culprit) from error
        self._show(Event("step", str(item.platform), "writing layers"))
        descriptor = await self._engine.export(image, item.platform, docker_format=self._prepared.request.docker_format)
        if item.promise_of:
            descriptor = hand_on(self._engine.layout, descriptor, item.promise_of)
        for key in {item.key, item.result_key}:
            keep(key, descriptor)
        seconds = time.monotonic() - started
        counts = self._engine.dispatched().get(item.platform)
        emulated = f", {counts}" if counts else ""
        self._show(Event("done", str(item.platform), f"built in {seconds:.1f} s{emulated}"))
        return BuiltImage(item.platform, descriptor, reused=False, seconds=seconds, log=log)

    def _arguments(self, item: Work) -> BuildArgs:
        request = self._prepared.request
        return BuildArgs(
            dockerfile=item.pinned.text,
            context=request.context.absolute(),
            platform=item.platform,
            target=request.target,
            build_args=request.build_args,
            secrets=request.secrets,
            files=item.pinned.files,
            toolchain=toolchain_files(self._prepared.graph(item.platform)),
            ignore_file=ignore_file(request.context.absolute(), request.dockerfile.absolute()),
            docker_format=request.docker_format,
            has_shell=any(
                i.keyword == "SHELL" for stage in self._prepared.dockerfile.stages for i in stage.instructions
            ),
            no_cache=request.no_cache,
        )


class _Watcher:
    """Turns a build's lines into events, and remembers the step that runs."""

    def __init__(self, prepared: Prepared, platform: Platform, show: Sink) -> None:
        self._dockerfile = prepared.dockerfile
        self._labels = [stage.label for stage in prepared.dockerfile.stages]
        self._subject = str(platform)
        self._show = show
        self.step: Step | None = None
        self.image = ""

    def __call__(self, line: str) -> None:
        """Take one line of output."""
        step = read_step(self._dockerfile, line)
        self.image = read_image(line) or ("" if step and step.step == 1 else self.image)
        if step is not None:
            self.step = step
            label = f"{self._labels[step.stage]}: " if len(self._labels) > 1 else ""
            self._show(Event("step", self._subject, f"{label}{step.text}", step.step, step.steps))
        elif is_cached(line) and self.step is not None:
            self._show(Event("step", self._subject, "cached", self.step.step, self.step.steps))


async def _fetch_bases(prepared: Prepared, layout: Layout, digests: Collection[str]) -> None:
    """Bring remote bases into the layout, each for the platforms that need it."""
    for answer in prepared.bases.values():
        platforms = [platform for platform, digest in answer.offered if digest in digests]
        await bases.fetch(layout, answer, platforms, tls_verify=prepared.request.tls_verify)


def _index(images: Sequence[BuiltImage], docker_format: bool) -> Document:
    media_type = DOCKER_LIST if docker_format else OCI_INDEX
    entries = tuple(image.descriptor for image in images)
    return document(Index(schema_version=2, media_type=media_type, manifests=entries))


def _log_folder() -> Path:
    """A new folder for this build's logs; the oldest of more than twenty go."""
    parent = places.logs()
    parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(entry for entry in parent.iterdir() if entry.is_dir())[: -_KEPT_LOGS + 1]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    folder = parent / time.strftime(f"%Y%m%dT%H%M%S-{os.getpid()}")
    folder.mkdir(exist_ok=True)  # a build after grafts of the same second
    return folder
