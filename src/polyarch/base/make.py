"""Make what is not kept: the namespace and its handlers around `debian.make`, and the index at the end."""

from __future__ import annotations

from collections.abc import Sequence

from polyarch.arch import Platform
from polyarch.base import debian
from polyarch.emulation.namespace import namespace
from polyarch.errors import HostError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.oci.model import Document
from polyarch.report import Event, Sink


async def make_base(
    layout: Layout, wish: debian.Wish, platforms: Sequence[Platform], facts: Facts, show: Sink, *, no_cache: bool
) -> Document:
    """One index of roots for the platforms; those made of the same wish before are kept unless `no_cache`.

    Raises `HostError` for a platform whose programs nothing here executes, `BuildError` when a root fails.
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
    if missing:
        with namespace(facts.registrations(missing)) as inside:
            kept |= await debian.make(inside, layout, wish, missing, show)
    return debian.index_of({platform: kept[platform] for platform in platforms})
