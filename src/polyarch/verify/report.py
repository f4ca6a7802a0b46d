"""What a proof says: violations, and a line for each platform that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from polyarch.verify.codes import CODES, Severity

_SHOWN = 3  # paths that a violation names when many files share it


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong; `count` files share it and `paths` are the first of them.

    `platform` is "" for what concerns the index, `layer` the digest of the blob or document, "" where there is none.
    """

    code: str
    severity: Severity
    platform: str
    layer: str
    path: str
    message: str
    hint: str
    count: int = 1
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest of the image. Sizes are in bytes; `elves` counts the ELF files that were looked at."""

    platform: str
    digest: str
    kind: Literal["image", "attestation", "artifact"]
    layers: int = 0
    size: int = 0
    expanded: int = 0
    elves: int = 0
    errors: int = 0
    warnings: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The whole proof of one image: `digest` is that of the top document."""

    name: str
    digest: str
    entries: tuple[Entry, ...] = ()
    violations: tuple[Violation, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is an error."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Violation, ...]:
        """The violations of one severity."""
        return tuple(v for v in self.violations if v.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {"ok": self.ok, **asdict(self)}


class Findings:
    """Gathers violations; the same finding in many files of a layer becomes one, with a count and its first paths."""

    def __init__(self, platform: str = "") -> None:
        self._platform = platform
        self._found: dict[tuple[str, str, str, str], Violation] = {}

    def add(
        self,
        code: str,
        message: str,
        *,
        layer: str = "",
        path: str = "",
        severity: Severity | None = None,
    ) -> None:
        """Note one finding; `severity` overrides the usual one of the code, which must be in `CODES`."""
        kind = CODES[code]
        key = (code, severity or kind.severity, layer, message)
        before = self._found.get(key)
        if before is None:
            self._found[key] = Violation(
                code,
                severity or kind.severity,
                self._platform,
                layer,
                path,
                message,
                kind.hint,
                paths=(path,) if path else (),
            )
            return
        paths = before.paths if not path or len(before.paths) >= _SHOWN else (*before.paths, path)
        self._found[key] = replace(before, count=before.count + 1, paths=paths)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Take over violations that are already whole."""
        for violation in violations:
            self._found[
                (violation.code, violation.severity, violation.layer, f"{violation.platform} {violation.message}")
            ] = violation

    def all(self) -> tuple[Violation, ...]:
        """Everything found, in the order it was first met; messages of many files say how many."""
        return tuple(
            v if v.count == 1 else replace(v, message=f"{v.message} ({v.count:,} files)") for v in self._found.values()
        )
