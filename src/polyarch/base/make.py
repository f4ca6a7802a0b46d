"""Make what is not kept: the namespace and its handlers around `debian.make`, and the index at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyarch.arch import Platform
from polyarch.base import accelerate, debian
from polyarch.emulation.namespace import namespace
from polyarch.errors import HostError, PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Document
from polyarch.report import Event, Sink

Roots = Mapping[Platform, Descriptor]


async def make_base(
    layout: Layout,
    wish: debian.Wish,
    platforms: Sequence[Platform],
    facts: Facts,
    show: Sink,
    *,
    no_cache: bool = False,
    accelerated: bool = True,
) -> Document:
    """One index of roots for the platforms; those made of the same wish before are kept unless `no_cache`.

    With `accelerated` foreign roots run native twins of their tools, which are those of the native root: that one is
    made first, and kept, wanted or not. Raises `HostError` for a platform whose programs nothing here executes,
    `BuildError` when a root fails.
    """
    kept = {} if no_cache else {p: d for p in platforms if (d := debian.kept(layout, wish, p)) is not None}
    for platform in kept:
        show(Event("done", str(platform), "made before: kept"))
    missing = [platform for platform in platforms if platform not in kept]
    for platform in missing:
        execution = facts.execution(platform)
        if execution.way == "none":
            message = f"packages of {platform} cannot be configured: {execution.why}"
            raise HostError(message, hint=execution.fix)
    if missing and accelerated and accelerate.worthwhile(missing, facts):
        kept |= await _native(layout, wish, missing, facts, show)
        missing = [platform for platform in missing if platform not in kept]
    kept |= await _make(layout, wish, missing, facts, show, kept.get(facts.platform) if accelerated else None)
    return debian.index_of({platform: kept[platform] for platform in platforms})


async def _native(layout: Layout, wish: debian.Wish, missing: Sequence[Platform], facts: Facts, show: Sink) -> Roots:
    """The native root, made if it is wanted or not kept. Raises only what a wanted one raises."""
    native = facts.platform
    known = None if native in missing else debian.kept(layout, wish, native)
    if known is not None:
        return {native: known}
    try:
        with namespace() as inside:
            return await debian.make(inside, layout, wish, [native], show)
    except PolyarchError as error:
        if native in missing:
            raise
        show(Event("note", "acceleration", f"off: {error.message}"))
        return {}


async def _make(
    layout: Layout,
    wish: debian.Wish,
    missing: Sequence[Platform],
    facts: Facts,
    show: Sink,
    native: Descriptor | None,
) -> Roots:
    """Make roots, with twins out of the native one if there is one and this machine has a dispatcher."""
    if not missing:
        return {}
    if native is not None and accelerate.worthwhile(missing, facts):
        try:
            register = accelerate.handlers(missing, facts)
        except PolyarchError as error:
            show(Event("note", "acceleration", f"off: {error.message} ({error.hint})"))
        else:
            with accelerate.opened(register, native.digest, layout, facts, show) as twins:
                return await debian.make(twins.namespace, layout, wish, missing, show, twins)
    with namespace(facts.registrations(missing)) as inside:
        return await debian.make(inside, layout, wish, missing, show)
