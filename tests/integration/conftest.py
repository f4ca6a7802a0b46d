"""Stores for the end-to-end tests: bases are made once and kept outside the tree, each test gets a store of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import cache, make_bases
from harness import Polyarch

EXAMPLE = Path(__file__).parents[2] / "examples" / "offering"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
FIVE = (*PLATFORMS, "linux/ppc64le", "linux/riscv64")


@pytest.fixture(scope="session")
def kept() -> Polyarch:
    """The store that holds the bases for five platforms; tests copy it."""
    kept = Polyarch(cache() / "home", cache() / "cache")
    kept.home.mkdir(parents=True, exist_ok=True)
    make_bases(FIVE, kept.env)
    return kept


@pytest.fixture
def polyarch(tmp_path: Path, kept: Polyarch) -> Polyarch:
    """A store of this test's own, with the bases in it."""
    return copy_store(kept, tmp_path / "polyarch")


@pytest.fixture
def empty(tmp_path: Path) -> Polyarch:
    """A store with nothing in it."""
    return Polyarch(tmp_path / "empty", cache() / "cache")


@pytest.fixture(scope="session")
def built(kept: Polyarch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Polyarch, str]]:
    """A store in which the example was built for three platforms, and the index's digest."""
    store = copy_store(kept, tmp_path_factory.mktemp("built"))
    digest = store.json("build", EXAMPLE, "-t", "offering:test", "--platform", ",".join(PLATFORMS))["digest"]
    yield store, digest
    shutil.rmtree(store.home, ignore_errors=True)


def copy_store(source: Polyarch, target: Path) -> Polyarch:
    """The images of a store, linked (blobs are never changed), in a new one."""
    shutil.copytree(source.home / "images", target / "images", copy_function=_link)
    return Polyarch(target, source.cache)


def _link(source: str, target: str) -> None:
    """Blobs are linked; what changes (names, the lock) is copied."""
    try:
        if "/blobs/" in source:
            os.link(source, target)
            return
    except OSError:  # another file system
        pass
    shutil.copy2(source, target)
