"""Twins of compilers: packages that a base does not bring, so they are fetched from its own distribution.

A container on the native base installs the cross compiler and unpacks the foreign packages beside it, without running
anything of them. Both roots come out as tar files. Only a cross compiler of the very same source revision is paired.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from polyarch.arch import ARCHES, Arch
from polyarch.build.engine import open_engine
from polyarch.emulation.twins import catalogue, packs, store
from polyarch.emulation.twins.pair import Coverage
from polyarch.errors import PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.report import Event, Sink

_RECIPE = 1  # raised when the same archive gives other twins
_FRESH = 7.0  # days until the archive is asked for newer revisions
_TOOLS = re.compile(r"\b(gcc|g\+\+|cc|c\+\+|build-essential|binutils|make|cmake|cargo|rustc|cython)\b")

# $1 triplet in a package's name, $2 Debian's architecture; writes /out/gcc, /out/native.tar and /out/foreign.tar.
_SCRIPT = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
gcc=$(apt-cache show --no-all-versions gcc | sed -n 's/^Depends:.*\bgcc-\([0-9][0-9]*\)\b.*/\1/p' | head -n 1)
packages="binutils-$1 cpp-$gcc-$1 gcc-$gcc-$1 g++-$gcc-$1"
apt-get install -qq -y --no-install-recommends $packages >/dev/null
dpkg --add-architecture "$2"
apt-get update -qq
mkdir -p /foreign/debs /foreign/root/var/lib/dpkg/info
cd /foreign/debs
chmod 777 .
apt-get download -qq $(for package in $packages; do echo "$package:$2"; done)
for deb in *.deb; do
    name=$(dpkg-deb -f "$deb" Package)
    dpkg-deb -x "$deb" /foreign/root
    dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./md5sums >"/foreign/root/var/lib/dpkg/info/$name.md5sums"
    dpkg-deb -f "$deb" Package Version
    echo 'Status: install ok installed'
    echo
done >/foreign/root/var/lib/dpkg/status
tar -cf /out/foreign.tar -C /foreign/root usr/libexec usr/bin var/lib/dpkg
tar -cf /out/native.tar -C / lib lib64 usr/lib usr/lib64 usr/libexec usr/bin var/lib/dpkg
echo "$gcc" >/out/gcc
"""


def wanted(commands: str) -> bool:
    """Whether these lines of a Dockerfile name a compiler, or something that calls one."""
    return _TOOLS.search(commands) is not None


def kept(native: str, arch: Arch) -> Coverage | None:
    """What was fetched before for programs of `arch`, on the base whose native manifest is `native`."""
    return store.load(_key(native, arch))


async def fetch(native: str, facts: Facts, layout: Layout, arch: Arch, show: Sink) -> None:
    """Fetch the compiler's twins unless that was done this week; the native base is whole in the layout.

    A base that cannot tell (no apt, no such packages, no network) has none; that is told as a note.
    """
    if store.load(_key(native, arch), days=_FRESH) is not None:
        return
    show(Event("step", str(arch.platform), "fetching the compiler's twins (once a week)"))
    try:
        await _fetch(native, facts, layout, arch)
    except PolyarchError as error:
        said = [line for line in error.detail.splitlines() if line.startswith("E: ")]
        show(Event("note", str(arch.platform), f"compilers are emulated: {next(iter(said), error.message)}"))


def _key(native: str, arch: Arch) -> str:
    return store.pack_key(_RECIPE, native, catalogue.compiler_tools(arch, catalogue.GCC))


async def _fetch(native: str, facts: Facts, layout: Layout, arch: Arch) -> None:
    folder = store.folder()  # not polyarch's own temporary folder: an engine that finds itself alone empties that
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="twins-") as name, open_engine(layout, facts, []) as engine:
        out = Path(name)
        out.chmod(0o777)
        await engine.import_bases([native])
        script = [_SCRIPT, "sh", arch.triplet.replace("_", "-"), arch.debian]
        await engine.run_once(native, ["sh", "-c", *script], out)
        tools = catalogue.compiler_tools(arch, (out / "gcc").read_text().strip())
        packs.of_archives(_key(native, arch), out / "native.tar", out / "foreign.tar", tools, ARCHES[facts.platform])
