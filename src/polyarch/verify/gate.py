"""The gate that every index passes before it is tagged or pushed; what was proved once is not proved again."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from polyarch import __version__, places
from polyarch.errors import ProofError
from polyarch.oci.layout import Layout, LayoutSource
from polyarch.oci.model import Document
from polyarch.oci.source import Source
from polyarch.report import Event, Sink
from polyarch.verify.facts import FORMAT
from polyarch.verify.prove import verify
from polyarch.verify.report import Report, Violation

RULES = f"{__version__} {FORMAT}"  # another verifier may find what this one did not


class LayerFiles:
    """A `LayerCache` in a folder: what each layer holds, by its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> str | None:
        """What was kept of a layer, or None."""
        path = self._path(digest)
        return path.read_text() if path.exists() else None

    def put(self, digest: str, facts: str) -> None:
        """Keep what a layer holds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(digest)
        beside = path.with_suffix(f".{secrets.token_hex(8)}")
        beside.write_text(facts)
        beside.rename(path)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}.json"


def prove(layout: Layout, document: Document, name: str, show: Sink) -> None:
    """Verify an image of the layout, unless that very image was proved before. Raises `ProofError`."""
    prove_source(LayoutSource(layout, document, name), show)


def prove_source(source: Source, show: Sink) -> None:
    """Verify an image wherever it is, unless that very image was proved before.

    Raises `ProofError` that lists every violation; warnings are shown and let it pass.
    """
    record = places.home() / "proofs" / f"{source.top().digest.replace(':', '-')}.json"
    if _proved(record):
        return
    show(Event("step", "proof", f"verifying {source.name}"))
    report = verify(source, known=LayerFiles(places.cache() / "layers"))
    if not report.ok:
        raise failed(report)
    for violation in report.of("warning"):
        show(Event("note", violation.platform or "proof", f"{violation.code}: {violation.message}"))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"rules": RULES, **report.as_dict()}))
    show(Event("done", "proof", f"{len(report.entries)} images are what they say"))


def _proved(record: Path) -> bool:
    """Whether an image was proved by these very rules."""
    try:
        return bool(json.loads(record.read_text())["rules"] == RULES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def failed(report: Report) -> ProofError:
    """The error of a report that is not clean."""
    errors = report.of("error")
    hints = dict.fromkeys(violation.hint for violation in errors if violation.hint)
    return ProofError(
        f"{report.name} is not what it says: {len(errors)} violations",
        detail="\n".join(map(line, errors)),
        hint="; ".join(hints),
    )


def line(violation: Violation) -> str:
    """A violation in one line: code, platform, path, message."""
    where = " ".join(part for part in (violation.platform, violation.path) if part)
    return f"{violation.code}: {where + ': ' if where else ''}{violation.message}"
