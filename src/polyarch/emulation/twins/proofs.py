"""What is known of twins by comparison: kept by all that went into it, signed with a key of this store.

A pair is named by the original, by every file that the twin loads, and by the commands that both were given: another
build of any of them has another proof. The signature keeps out what else may write to the cache.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict
from pathlib import Path

from polyarch import places
from polyarch.emulation.twins import corpus
from polyarch.emulation.twins.pair import Coverage, Twin
from polyarch.emulation.twins.store import folder

_SAME = "same"
_HMAC = "sha256"


def find(twin: Twin) -> str | None:
    """`""` when both answered alike, else to which command they did not; None when nobody has compared them."""
    try:
        said = json.loads(_path(twin).read_text())
        outcome, signature = str(said["outcome"]), str(said["signature"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not hmac.compare_digest(signature, _signature(twin, outcome)):
        return None
    return "" if outcome == _SAME else outcome


def keep(twin: Twin, differing: str) -> None:
    """Sign and keep what came of a comparison; `differing` as `find` returns it."""
    outcome, path = differing or _SAME, _path(twin)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{secrets.token_hex(4)}")
    beside.write_text(json.dumps({"outcome": outcome, "signature": _signature(twin, outcome)}))
    beside.rename(path)


def without_disproved(coverage: Coverage) -> Coverage:
    """The same without twins that were seen to answer otherwise."""
    wrong = {twin: differing for twin in coverage.twins if (differing := find(twin))}
    missing = [(twin.tool, f"it answered otherwise: {differing}") for twin, differing in wrong.items()]
    return Coverage(tuple(twin for twin in coverage.twins if twin not in wrong), (*coverage.missing, *missing))


def _name(twin: Twin) -> str:
    files = [twin.program.name, twin.loader.name, *((name, path.name) for name, path in twin.libraries)]
    said = [asdict(twin.tool), twin.build_id, twin.size, files, corpus.INPUTS, corpus.CASES.get(twin.tool.name)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _path(twin: Twin) -> Path:
    return folder() / "proofs" / f"{_name(twin)}.json"


def _signature(twin: Twin, outcome: str) -> str:
    return hmac.digest(_key(), f"{_name(twin)} {outcome}".encode(), _HMAC).hex()


def _key() -> bytes:
    """The store's own key, made when it is asked for first."""
    path = places.home() / "proof.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            path.hardlink_to(beside)  # the first one to do it wins
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    return path.read_bytes()
