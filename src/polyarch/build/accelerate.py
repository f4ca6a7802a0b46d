"""Acceleration of one build: which bases have twins, the table of them, and the handlers that use it.

Nothing here may fail a build: what cannot be accelerated is emulated, and the reason is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polyarch.arch import ARCHES, Platform
from polyarch.base import resolve as bases
from polyarch.base.model import BaseAnswer
from polyarch.build import compilers
from polyarch.build.engine import Acceleration
from polyarch.build.prepare import Prepared
from polyarch.dockerfile.graph import ImageRef
from polyarch.emulation import binfmt
from polyarch.emulation.dispatcher import program
from polyarch.emulation.twins import catalogue, packs, proofs, table
from polyarch.emulation.twins.pair import Coverage, Twin
from polyarch.errors import InputError, PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.report import Event, Sink

# The table is visible where the root's /proc is the namespace's; runtimes of their own mount another one.
_ISOLATION = "chroot"


async def accelerate(
    prepared: Prepared, platforms: Iterable[Platform], facts: Facts, layout: Layout, show: Sink
) -> Acceleration | None:
    """The acceleration for these platforms of a build, or None; what stands in its way is told as a note."""
    wanted = [p for p in dict.fromkeys(platforms) if facts.execution(p).way == "namespace"]
    foreign = [p for p in wanted if catalogue.accelerated(ARCHES[p])]
    if not foreign:
        return None
    if facts.isolation != _ISOLATION:
        show(Event("note", "acceleration", f"off: it needs the isolation {_ISOLATION}, not {facts.isolation}"))
        return None
    try:
        twins = [twin for p in foreign for twin in await _twins(prepared, p, facts, layout, show)]
        return acceleration(twins, wanted, facts) if twins else None
    except (PolyarchError, OSError) as error:
        hint = f" ({error.hint})" if isinstance(error, PolyarchError) and error.hint else ""
        show(Event("note", "acceleration", f"off: {error}{hint}"))
        return None


def acceleration(twins: Sequence[Twin], platforms: Iterable[Platform], facts: Facts) -> Acceleration:
    """The table of these twins, and handlers for the platforms. Raises `HostError` when there is no dispatcher."""
    dispatcher = program.find()
    emulators = [emulator for platform in platforms if (emulator := facts.emulator(platform))]
    lines = [binfmt.registration_line(ARCHES[e.platform], program.with_emulator(dispatcher, e.path)) for e in emulators]
    return Acceleration(table.make(twins, emulators), tuple(lines))


async def coverage(
    answer: BaseAnswer, platform: Platform, facts: Facts, layout: Layout, *, tls_verify: bool = True
) -> Coverage:
    """What has twins on a base for programs of `platform`: its own tools, and compilers that were fetched before.

    Raises `InputError` when the base has no variant of this machine's or that platform.
    """
    native, foreign = answer.digest(facts.platform), answer.digest(platform)
    for wanted, digest in ((facts.platform, native), (platform, foreign)):
        if digest is None:
            raise InputError(f"{answer.name} has no variant for {wanted}")
    if native is None or foreign is None or native == foreign or not catalogue.accelerated(ARCHES[platform]):
        return Coverage(())
    await bases.fetch(layout, answer, [facts.platform, platform], tls_verify=tls_verify)
    found = packs.of_base(layout, native, foreign, ARCHES[facts.platform], ARCHES[platform])
    more = compilers.kept(native, ARCHES[platform]) or Coverage(())
    return proofs.without_disproved(Coverage((*found.twins, *more.twins), (*found.missing, *more.missing)))


async def _twins(prepared: Prepared, platform: Platform, facts: Facts, layout: Layout, show: Sink) -> Sequence[Twin]:
    """The twins for all bases of a platform. A base without a variant for this machine has none."""
    found: list[Twin] = []
    for answer in _bases(prepared, platform):
        native = answer.digest(facts.platform)
        if native is None or native == answer.digest(platform):
            show(Event("note", str(platform), f"emulated: {answer.name} has no variant for {facts.platform}"))
            continue
        if compilers.wanted(_commands(prepared, platform)):
            await bases.fetch(layout, answer, [facts.platform], tls_verify=prepared.request.tls_verify)
            await compilers.fetch(native, facts, layout, ARCHES[platform], show)
        tls_verify = prepared.request.tls_verify
        covered = await coverage(answer, platform, facts, layout, tls_verify=tls_verify)
        if not covered.twins:
            why = covered.missing[0][1] if covered.missing else "it has none of the tools that are known"
            show(Event("note", str(platform), f"emulated: no tool of {answer.name} has a twin ({why})"))
        found += covered.twins
    return found


def _bases(prepared: Prepared, platform: Platform) -> list[BaseAnswer]:
    """The images that stages of `platform` start from and execute programs in."""
    names = dict.fromkeys(
        stage.base.name
        for graph in prepared.graphs.values()
        for stage in graph.stages
        if stage.executes and stage.platform == platform and isinstance(stage.base, ImageRef)
    )
    return [prepared.bases[name] for name in names]


def _commands(prepared: Prepared, platform: Platform) -> str:
    """What the Dockerfile says for this platform's stages; only looked through for names of tools."""
    return "\n".join(
        instruction.original
        for graph in prepared.graphs.values()
        for stage in graph.stages
        if stage.executes and stage.platform == platform
        for instruction in stage.instructions
    )
