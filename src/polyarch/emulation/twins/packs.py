"""Packs of twins out of images: read the two roots, pair them, keep the result.

A root is unpacked into a folder of its own, in part, and removed when its files are in the store.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from polyarch.arch import Arch
from polyarch.emulation.twins import catalogue, store, tree
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.pair import Coverage, pair
from polyarch.errors import InputError
from polyarch.oci.layout import Layout
from polyarch.oci.model import Manifest, parse_document

_RECIPE = 4  # raised when the same roots give other twins
Open = Callable[[], Sequence[BinaryIO]]


def of_base(layout: Layout, native: str, foreign: str, host: Arch, arch: Arch) -> Coverage:
    """The twins for programs of a base: `native` and `foreign` are the digests of its manifests, whole in the layout.

    Raises `InputError` when a layer cannot be read.
    """
    tools = catalogue.base_tools(arch, host)
    key = store.pack_key(_RECIPE, native, foreign, tools)
    return store.load(key) or _make(key, tools, host, lambda: _blobs(layout, native), lambda: _blobs(layout, foreign))


def of_root(layout: Layout, native: str, foreign: Path, host: Arch, arch: Arch) -> Coverage:
    """The twins for programs of a root in a folder; `native` is the digest of a manifest, as for `of_base`."""
    tools, there = catalogue.base_tools(arch, host), tree.Tree(foreign)
    key = store.pack_key(_RECIPE, native, sorted(there.versions().items()), tools)
    with _unpacked(lambda: _blobs(layout, native), _of_twins(tools), libraries=True) as here:
        return store.save(key, pair(here, there, tools, host))


def of_archives(key: str, native: Path, foreign: Path, tools: Sequence[Tool], host: Arch) -> Coverage:
    """The twins for tools of two roots that are tar files; kept under `key`. Raises as `of_base` does."""
    return _make(key, tools, host, lambda: [native.open("rb")], lambda: [foreign.open("rb")])


def _make(key: str, tools: Sequence[Tool], host: Arch, native: Open, foreign: Open) -> Coverage:
    originals = {tool.path for tool in tools}
    with (
        _unpacked(native, _of_twins(tools), libraries=True) as here,
        _unpacked(foreign, originals, libraries=False) as there,
    ):
        return store.save(key, pair(here, there, tools, host))


def _of_twins(tools: Sequence[Tool]) -> set[str]:
    return {tool.twin or tool.path for tool in tools} | {path for tool in tools for path in tool.files}


@contextlib.contextmanager
def _unpacked(opened: Open, paths: Collection[str], *, libraries: bool) -> Iterator[tree.Tree]:
    """The part of a root that pairing asks for; gone afterwards."""
    # Before usr-merge, and in packages that were built for it, files lie without the `usr/`.
    wanted = {*paths, *(path.removeprefix("usr/") for path in paths), tree.STATUS}

    def asked(path: str) -> bool:
        if path in wanted or (path.startswith(tree.INFO) and path.endswith(".md5sums")):
            return True
        return libraries and ".so" in path.rpartition("/")[2] and path.startswith(("lib", "usr/lib"))

    folder = store.folder() / "roots" / secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield tree.unpack([stack.enter_context(file) for file in opened()], folder, asked)


def _blobs(layout: Layout, digest: str) -> list[BinaryIO]:
    manifest = parse_document(layout.read(digest), "", digest).value
    if not isinstance(manifest, Manifest):
        raise InputError(f"{digest} is an index, not one platform's image")
    return [layout.open(layer.digest) for layer in manifest.layers]
