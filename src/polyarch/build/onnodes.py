"""Builds on nodes: the least loaded one first, and when it is lost in mid-build the next, or else this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from polyarch.build.model import BuiltImage
from polyarch.build.prepare import Prepared
from polyarch.build.remote import RemoteEngine
from polyarch.build.transplant import Build, Failures, Images
from polyarch.build.work import Work
from polyarch.errors import NodeError
from polyarch.nodes.ask import tell_lost
from polyarch.nodes.model import Answer
from polyarch.nodes.session import open_session
from polyarch.oci.layout import Layout
from polyarch.plan.model import NodePlan
from polyarch.report import Event, Sink

BuildThere = Callable[[RemoteEngine, Work, Sink], Awaitable[tuple[Images, Failures]]]


class Fleet:
    """The nodes of one command: which are busy, and which were lost."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = {answer.node.name: answer for answer in answers}
        self._ours: Counter[str] = Counter()
        self.lost: dict[str, str] = {}
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def slot(self, names: Sequence[str]) -> AsyncIterator[Answer | None]:
        """A slot of the least loaded of these nodes, when one is free; None when all of them are lost."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._left(names) or self._free(names))
            name = min(self._free(names), key=self._load, default="")
            self._ours[name] += 1
        try:
            yield self._answers.get(name)
        finally:
            async with self._changed:
                self._ours[name] -= 1
                self._changed.notify_all()

    def _left(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.lost]

    def _free(self, names: Sequence[str]) -> list[str]:
        return [name for name in self._left(names) if self._ours[name] < self._answers[name].node.slots]

    def _load(self, name: str) -> float:
        """Builds for each slot: those of others when the node was asked, and ours."""
        answer = self._answers[name]
        busy = answer.abilities.busy if answer.abilities else 0
        return (busy + self._ours[name]) / answer.node.slots


class NodeBuilds:
    """What this command builds on nodes."""

    def __init__(self, prepared: Prepared, layout: Layout, show: Sink, there: BuildThere, here: Build) -> None:
        self._plans = {entry.platform: entry.node for entry in prepared.plan.platforms if entry.node}
        self._fleet = Fleet(prepared.nodes)
        self._layout = layout
        self._show = show
        self._there = there
        self._here = here
        self._keep_going = prepared.request.keep_going

    async def build(self, works: Sequence[Work]) -> tuple[Images, Failures]:
        """Build works where the plan has them, side by side; those that no node is planned for go to this machine."""
        here = [item for item in works if item.platform not in self._plans]
        jobs = [self._one(item, self._plans[item.platform]) for item in works if item.platform in self._plans]
        return await _together([*([self._here(here)] if here else []), *jobs], keep_going=self._keep_going)

    async def _one(self, item: Work, planned: NodePlan) -> tuple[Images, Failures]:
        while True:
            async with self._fleet.slot(planned.names) as answer:
                if answer is None:
                    break
                made, failures = await self._on(answer, item)
            error = failures.get(item.platform)
            if not isinstance(error, NodeError):
                return made, failures
            self._leave(answer, item, error)
        subject = str(item.platform)
        if planned.otherwise:
            self._show(Event("note", subject, "no node is left for it, so it is built here"))
            return await self._here([item])
        said = "\n".join(f"{name}: {self._fleet.lost[name]}" for name in planned.names)
        hint = "polyarch node check" + ("; without --strategy this machine may build it" if planned.forced else "")
        error = NodeError(f"{subject}: no node is left to build it", detail=said, hint=hint)
        self._show(Event("failed", subject, error.message))
        return {}, {item.platform: error}

    async def _on(self, answer: Answer, item: Work) -> tuple[Images, Failures]:
        """One try; that the node failed is a failure like others."""
        if answer.abilities is None:  # the planner names none of those
            return {}, {item.platform: NodeError(answer.why)}
        held: list[Event] = []

        def show(event: Event) -> None:
            """A failure may be the node's, and then it is none yet."""
            (held.append if event.kind == "failed" else self._show)(event)

        self._show(Event("start", str(item.platform), f"on node {answer.node.name}"))
        try:
            async with open_session(answer.node, answer.abilities, item.platform) as session:
                made, failures = await self._there(RemoteEngine(session, self._layout), item, show)
        except NodeError as error:
            return {}, {item.platform: error}
        if not isinstance(failures.get(item.platform), NodeError):
            for event in held:
                self._show(event)
        return {platform: _built_on(answer, image) for platform, image in made.items()}, failures

    def _leave(self, answer: Answer, item: Work, error: NodeError) -> None:
        name = answer.node.name
        if name not in self._fleet.lost:
            self._fleet.lost[name] = error.message
            tell_lost(answer.node, error.message)
        detail = f": {error.detail.splitlines()[-1]}" if error.detail else ""
        self._show(Event("note", str(item.platform), f"node {name} is left: {error.message}{detail}"))


async def _together(jobs: Iterable[Awaitable[tuple[Images, Failures]]], *, keep_going: bool) -> tuple[Images, Failures]:
    """Run side by side; without `keep_going` the first that fails ends the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    pending, failed = set(tasks), False
    try:
        while pending and (keep_going or not failed):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            failed = failed or any(task.exception() is not None or task.result()[1] for task in done)
    finally:
        for task in pending:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    made: Images = {}
    failures: Failures = {}
    for result in results:
        if isinstance(result, tuple):
            made |= result[0]
            failures |= result[1]
        elif isinstance(result, Exception):
            raise result
    return made, failures


def _built_on(answer: Answer, image: BuiltImage) -> BuiltImage:
    return replace(image, node=answer.node.name)
