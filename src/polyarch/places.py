"""Where polyarch keeps things: one folder for what it must not lose, one for what it can make again.

`POLYARCH_HOME` and `POLYARCH_CACHE` override the XDG base directories (freedesktop.org basedir-spec).
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Images, records of builds and buildah's storage."""
    return Path(os.environ.get("POLYARCH_HOME") or _xdg("XDG_DATA_HOME", ".local/share")).absolute()


def cache() -> Path:
    """Results of probes; may be deleted at any time."""
    return Path(os.environ.get("POLYARCH_CACHE") or _xdg("XDG_CACHE_HOME", ".cache")).absolute()


def store() -> Path:
    """The OCI image layout that holds every image polyarch made or pulled."""
    return home() / "images"


def store_lock() -> Path:
    """Held shared by every command that uses the store, alone by the one that removes what nobody needs."""
    return home() / "store.lock"


def storage() -> Path:
    """Buildah's graph root: step caches and working containers."""
    return home() / "storage"


def records() -> Path:
    """One JSON file per finished platform build, named by the hash of its inputs."""
    return home() / "builds"


def bases() -> Path:
    """One JSON file per finished base and platform, named by the hash of what was wished."""
    return home() / "bases"


def history() -> Path:
    """How long stages took, a line of JSON each."""
    return home() / "history.jsonl"


def logs() -> Path:
    """Log files of builds."""
    return home() / "logs"


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "polyarch"
