"""The store and buildah's storage as a whole: held alone, and removed."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from polyarch import places, run
from polyarch.emulation.namespace import namespace
from polyarch.errors import InputError


@contextlib.contextmanager
def store_alone() -> Iterator[None]:
    """Keep every other command out of the store. Raises `InputError` when one is in it."""
    places.home().mkdir(parents=True, exist_ok=True)
    with places.store_lock().open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError("another polyarch uses the store", hint="try again when it has ended") from error
        yield


def remove_storage() -> None:
    """Remove buildah's storage. What is in it belongs to mapped users: only in the namespace may it be removed."""
    if places.storage().exists():
        with namespace() as inside:
            run.capture(inside.enter(["rm", "-rf", str(places.storage())]))
