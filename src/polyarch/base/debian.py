"""Base images out of Debian's packages (mmdebstrap(1)), for places that reach no registry.

One root per platform, built side by side in polyarch's own namespace (a foreign one by its emulator), each kept under
the hash of what it was made of, and all together one index.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from polyarch import places, run
from polyarch.arch import ARCHES, Platform
from polyarch.base.accelerate import Twins
from polyarch.emulation.namespace import Namespace
from polyarch.errors import BuildError, InputError
from polyarch.oci import layers, notes
from polyarch.oci.layout import Layout
from polyarch.oci.made import labelled, store_image
from polyarch.oci.model import OCI_INDEX, Descriptor, Document, Index, document
from polyarch.report import Event, Sink

_SUITE = re.compile(r"debian:(?P<suite>[a-z][a-z0-9-]*)")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TORN = re.compile(r"Mirror sync in progress|Hash Sum mismatch|unexpected size")
_RECIPE = 1  # raised when what is made of the same wish changes


@dataclass(frozen=True, slots=True)
class Wish:
    """What goes into one root: Debian suite, extra packages, archive (mmdebstrap's own when empty), options of apt.

    Options of apt stay in force in the image (`--aptopt` of mmdebstrap(1)).
    """

    suite: str
    include: tuple[str, ...] = ()
    mirror: str = ""
    epoch: str = ""
    apt_options: tuple[str, ...] = ()

    def key(self, platform: Platform) -> str:
        """The hash that a root made of this is kept under."""
        said = json.dumps([_RECIPE, str(platform), asdict(self)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def parse_wish(name: str, include: Sequence[str] = (), mirror: str = "", apt_options: Sequence[str] = ()) -> Wish:
    """Read `debian:SUITE`. Raises `InputError` for any other distribution."""
    found = _SUITE.fullmatch(name)
    if found is None:
        raise InputError(
            f"no recipe for a base {name!r}",
            detail="bases are made of Debian's packages: debian:SUITE, such as debian:trixie",
            hint="polyarch base debian:trixie --platform linux/amd64,linux/arm64 -t debian:trixie",
        )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return Wish(found["suite"], tuple(sorted(include)), mirror, epoch, tuple(apt_options))


def kept(layout: Layout, wish: Wish, platform: Platform) -> Descriptor | None:
    """The root made of this wish before, if it is still whole."""
    descriptor = notes.read(_record(wish, platform))
    return descriptor if descriptor and layout.whole(descriptor.digest) else None


async def make(
    namespace: Namespace,
    layout: Layout,
    wish: Wish,
    platforms: Sequence[Platform],
    show: Sink,
    twins: Twins | None = None,
) -> Mapping[Platform, Descriptor]:
    """Make one root per platform, as many at once as there are processors; all that finish are kept.

    `twins` are those of the namespace, if it has any.

    Raises `BuildError` with mmdebstrap's last words for the first platform that fails, `HostError` when mmdebstrap is
    missing.
    """
    run.need("mmdebstrap")
    run.need("arch-test")
    places_free = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(platform: Platform) -> Descriptor:
        async with places_free:
            return await _make_one(namespace, layout, wish, platform, show, twins)

    tasks = {platform: asyncio.create_task(one(platform)) for platform in platforms}
    try:
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return {platform: task.result() for platform, task in tasks.items()}


def index_of(manifests: Mapping[Platform, Descriptor]) -> Document:
    """One index of all the roots."""
    return document(Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(manifests.values())))


async def _make_one(
    namespace: Namespace, layout: Layout, wish: Wish, platform: Platform, show: Sink, twins: Twins | None
) -> Descriptor:
    arch = ARCHES[platform]

    def on_line(line: str) -> None:
        if twins:
            twins.watch(platform, line)
        _progress(show, platform, line)

    show(Event("start", str(platform), f"bootstrapping debian:{wish.suite} ({arch.debian})"))
    with layout.incoming() as (path, file):
        argv = _command(wish, arch.debian, path.absolute(), twins.options(platform) if twins else [])
        try:
            await run.stream(namespace.enter(argv), on_line, env=_epoch(wish))
        except BuildError as error:
            raise _explain(error, wish, platform) from error
        show(Event("step", str(platform), "compressing"))
        diff_id, layer = await asyncio.to_thread(layers.compress, layout, file)
    descriptor = _image(layout, wish, platform, diff_id, layer)
    notes.write(_record(wish, platform), descriptor)
    counts = namespace.dispatched().get(platform)
    emulated = f", {counts}" if counts else ""
    show(Event("done", str(platform), f"{layer.size / 1e6:.0f} MB compressed{emulated}"))
    return descriptor


def _command(wish: Wish, architecture: str, tar: Path, more: Sequence[str]) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",  # root of the namespace
        "--variant=minbase",
        f"--architectures={architecture}",
        "--format=tar",
        "--skip=output/dev",  # device nodes are the runtime's business, and not ours to make in a user namespace
        "--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"",  # the build machine's, not the image's
        *(f"--aptopt={option}" for option in wish.apt_options),
        *([f"--include={','.join(wish.include)}"] if wish.include else []),
        *more,
        wish.suite,
        str(tar),
        *([wish.mirror] if wish.mirror else []),
    ]  # fmt: skip


def _image(layout: Layout, wish: Wish, platform: Platform, diff_id: str, layer: Descriptor) -> Descriptor:
    """Write config and manifest of a root; returns the manifest's descriptor with its platform."""
    created = datetime.datetime.fromtimestamp(int(wish.epoch or 0), datetime.UTC).isoformat().replace("+00:00", "Z")
    config = {
        "created": created,
        "config": {"Env": [_PATH], "Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": f"polyarch base debian:{wish.suite}"}],
    }
    raw = json.dumps(labelled(config, platform), sort_keys=True, separators=(",", ":")).encode()
    return store_image(layout, platform, raw, [layer])


def _explain(error: BuildError, wish: Wish, platform: Platform) -> BuildError:
    """The failure of mmdebstrap with what helps; archives in mid-synchronisation and frozen ones are usual."""
    hint = "the command's own words are above"
    if _TORN.search(error.detail):
        hint = (
            "the archive's package lists do not fit its Release file (a mirror in mid-synchronisation): try again"
            f" later, another --mirror, or the name of the suite that is whole (debian:stable -t debian:{wish.suite})"
        )
    elif "is expired" in error.detail:
        hint = "the archive is a frozen copy: --aptopt 'Acquire::Check-Valid-Until \"false\"' accepts its age"
    return BuildError(f"{platform}: debian:{wish.suite} cannot be bootstrapped", detail=error.detail, hint=hint)


def _progress(show: Sink, platform: Platform, line: str) -> None:
    if line.startswith(("I: ", "W: ")):
        show(Event("step", str(platform), line[3:]))


def _epoch(wish: Wish) -> dict[str, str]:
    return {"SOURCE_DATE_EPOCH": wish.epoch} if wish.epoch else {}


def _record(wish: Wish, platform: Platform) -> Path:
    return places.bases() / f"{wish.key(platform)}.json"
