"""Works carried out by the engine: platforms side by side, a stage after another, what they share only once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from polyarch import places
from polyarch.arch import Platform
from polyarch.build import history
from polyarch.build.culprit import find
from polyarch.build.engine import BuildArgs, Builds, base_name, stage_name
from polyarch.build.failure import explain, stage_platform
from polyarch.build.graft import hand_on
from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared
from polyarch.build.records import keep
from polyarch.build.steps import Step, is_cached, read_image, read_step
from polyarch.build.work import StageWork, Work
from polyarch.dockerfile.context import ignore_file
from polyarch.errors import BuildError, PolyarchError
from polyarch.plan.model import Strategy
from polyarch.plan.times import Took, way_of
from polyarch.report import Event, Sink
from polyarch.toolchain import context as toolchain

_KEPT_LOGS = 20

Fetch = Callable[[Collection[str]], Awaitable[None]]


class Builder:
    """The platforms of one build; holds what they share and what became of them.

    `fetch` brings bases (by digest) into the layout. `done` are the keys of stages that this very command has built,
    so that they count even where nothing of earlier ones does; what is built is added. `node`: the engine is one's, and
    `given` are stages (key -> manifest in the layout) that were made elsewhere.
    """

    def __init__(
        self,
        prepared: Prepared,
        engine: Builds,
        show: Sink,
        fetch: Fetch,
        done: set[str],
        *,
        node: bool = False,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self._prepared = prepared
        self._engine = engine
        self._show = show
        self._fetch = fetch
        self._done = done
        self._node = node
        self._given = given or {}
        self._logs = _log_folder()
        self._free = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._stages: dict[str, asyncio.Task[None]] = {}
        self._images: dict[str, str] = {}
        self._first: dict[str, Platform] = {}
        self._made: dict[Platform, BuiltImage] = {}
        self._failures: dict[Platform, PolyarchError] = {}

    async def all(self, todo: Sequence[Work]) -> tuple[dict[Platform, BuiltImage], dict[Platform, PolyarchError]]:
        """Build them side by side."""
        if not self._prepared.request.no_cache or self._done:
            self._images = await self._engine.stages(stage.key for item in todo for stage in item.stages)
        known = self._done & self._images.keys() if self._prepared.request.no_cache else set(self._images)
        known |= self._given.keys()
        await self._engine.import_bases(self._given.values())
        self._images |= {key: base_name(digest) for key, digest in self._given.items()}
        missing = {item.platform: item.missing(known) for item in todo}
        digests = list(dict.fromkeys(d for stages in missing.values() for stage in stages for d in stage.bases))
        await self._fetch(digests)
        await self._engine.import_bases(digests)
        tasks = [asyncio.create_task(self._guarded(item, missing[item.platform])) for item in todo]
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

    async def _guarded(self, item: Work, missing: Sequence[StageWork]) -> None:
        subject = str(item.platform)
        try:
            self._made[item.platform] = await self._one(item, missing)
        except asyncio.CancelledError:
            self._show(Event("cancelled", subject, "cancelled"))
            raise
        except PolyarchError as error:
            self._failures[item.platform] = error
            self._show(Event("failed", subject, error.message))

    async def _one(self, item: Work, missing: Sequence[StageWork]) -> BuiltImage:
        started = time.monotonic()
        log = self._logs / f"{item.platform.slug}.log"
        self._show(Event("start", str(item.platform), f"building, log {log}"))
        with log.open("a", encoding="utf-8") as file:  # another node's try may be in it
            for stage in _in_use(item, missing):
                if stage in missing:
                    await self._once(stage, item.platform, file)
                else:
                    self._tell(item.platform, f"{stage.label}: nothing changed: kept", file)
        async with self._free:
            self._show(Event("step", str(item.platform), "writing layers"))
            image, docker_format = self._images[item.stages[-1].key], self._prepared.request.docker_format
            descriptor = await self._engine.export(image, item.platform, docker_format=docker_format)
        if item.promise_of:
            descriptor = hand_on(self._engine.layout, descriptor, item.promise_of)
        for key in {item.key, item.result_key}:
            keep(key, descriptor)
        seconds = time.monotonic() - started
        counts = self._engine.dispatched().get(item.platform)
        emulated = f", {counts}" if counts else ""
        self._show(Event("done", str(item.platform), f"built in {seconds:.1f} s{emulated}"))
        return BuiltImage(item.platform, descriptor, reused=False, seconds=seconds, log=log, programs=counts)

    async def _once(self, stage: StageWork, platform: Platform, log: IO[str]) -> None:
        """Build a stage, or wait for the platform that does."""
        task = self._stages.get(stage.key)
        if task is None:
            self._first[stage.key] = platform
            task = self._stages[stage.key] = asyncio.create_task(self._stage(stage, platform, log))
        elif self._first[stage.key] != platform:
            self._tell(platform, f"{stage.label}: shared, {self._first[stage.key]} builds it", log)
        await task

    async def _stage(self, stage: StageWork, platform: Platform, log: IO[str]) -> None:
        watcher = _Watcher(self._prepared, stage, platform, self._show)
        async with self._free:
            started = time.monotonic()
            try:
                self._images[stage.key] = await self._engine.build(self._arguments(stage), watcher, log)
            except BuildError as error:
                runs = stage_platform(self._prepared, platform, watcher.step)
                culprit = await asyncio.to_thread(find, self._engine, error.detail, runs, watcher.image)
                raise explain(error, self._prepared, platform, watcher.step, Path(log.name), culprit) from error
            self._note(stage, platform, watcher, time.monotonic() - started)
        self._done.add(stage.key)

    def _note(self, stage: StageWork, platform: Platform, watcher: _Watcher, seconds: float) -> None:
        """Keep how long a stage took, if all its steps were executed."""
        if watcher.cached:
            return
        way = Strategy.NODE if self._node else self._prepared.plan.way(platform, stage.index)
        path = str(self._prepared.request.dockerfile.absolute())
        history.note(Took(path, stage.label, str(platform), way_of(way), round(seconds, 3)))

    def _tell(self, platform: Platform, text: str, log: IO[str]) -> None:
        self._show(Event("step", str(platform), text))
        log.write(f"{text}\n")

    def _arguments(self, stage: StageWork) -> BuildArgs:
        request, text = self._prepared.request, stage.pinned.text
        for key in stage.needs:  # a name is looked up for one platform, which a cached image may state wrongly
            text = text.replace(stage_name(key), self._images[key])
        return BuildArgs(
            dockerfile=text,
            context=request.context.absolute(),
            platform=stage.platform,
            tag=stage_name(stage.key),
            build_args=request.build_args,
            secrets=request.secrets,
            contexts=request.contexts,
            ssh=request.ssh,
            files=stage.pinned.files,
            toolchain=toolchain.files() if stage.toolchain else (),
            ignore_file=ignore_file(request.context.absolute(), request.dockerfile.absolute()),
            no_cache=request.no_cache or stage.anew,
        )


class _Watcher:
    """Turns the lines of a stage's build into events, and remembers the step that runs."""

    def __init__(self, prepared: Prepared, stage: StageWork, platform: Platform, show: Sink) -> None:
        self._dockerfile = prepared.dockerfile
        self._label = f"{stage.label}: " if len(prepared.dockerfile.stages) > 1 else ""
        self._index = stage.index
        self._subject = str(platform)
        self._show = show
        self.step: Step | None = None
        self.image = ""
        self.cached = False

    def __call__(self, line: str) -> None:
        """Take one line of output; other stages stand in the text as images only."""
        step = read_step(self._dockerfile, line)
        self.image = read_image(line) or ("" if step and step.step == 1 else self.image)
        if step is not None:
            self.step = step
            if step.stage == self._index:
                self._show(Event("step", self._subject, f"{self._label}{step.text}", step.step, step.steps))
        elif is_cached(line) and self.step is not None and self.step.stage == self._index:
            self.cached = True
            self._show(Event("step", self._subject, "cached", self.step.step, self.step.steps))


def _in_use(item: Work, missing: Sequence[StageWork]) -> list[StageWork]:
    """The stages that are built or built upon, in order; those that only kept ones are made of are of no interest."""
    wanted = {item.stages[-1].key} | {key for stage in missing for key in (stage.key, *stage.needs)}
    return [stage for stage in item.stages if stage.key in wanted]


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
