"""A report as other tools read it: SARIF 2.1.0 (OASIS; code scanning) and JUnit XML (CI test views)."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from polyarch.verify.codes import CODES
from polyarch.verify.report import Report, Violation

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def sarif(report: Report) -> str:
    """One run with a rule for each code that was found and a result for each violation."""
    used = sorted({violation.code for violation in report.violations})
    rules = [
        {
            "id": name,
            "shortDescription": {"text": CODES[name].title},
            "help": {"text": CODES[name].hint},
            "defaultConfiguration": {"level": _LEVELS[CODES[name].severity]},
        }
        for name in used
    ]
    results = [_result(report, violation) for violation in report.violations]
    driver = {"name": "polyarch", "rules": rules}
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=2)


def junit(report: Report) -> str:
    """One suite for each platform and one for the documents; only errors fail, warnings and notes are output."""
    labels = ["", *dict.fromkeys(entry.platform for entry in report.entries if entry.platform)]
    labels += sorted({violation.platform for violation in report.violations} - set(labels))
    suites = "\n".join(_suite(report, label) for label in labels)
    failures = len(report.of("error"))
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="polyarch verify" failures="{failures}">'
    return f"{head}\n{suites}\n</testsuites>\n"


def _result(report: Report, violation: Violation) -> dict[str, Any]:
    """SARIF wants a file for each result: the path in the image, below the image's name and platform."""
    uri = f"{report.name}/{violation.platform or 'index'}/{violation.path.lstrip('/') or violation.layer}"
    return {
        "ruleId": violation.code,
        "level": _LEVELS[violation.severity],
        "message": {"text": f"{_subject(violation)}: {violation.message}. {violation.hint}"},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": _uri(uri)}},
                "logicalLocations": [{"fullyQualifiedName": f"{violation.layer}:{violation.path}", "kind": "member"}],
            }
        ],
        "properties": {
            "platform": violation.platform,
            "layer": violation.layer,
            "count": violation.count,
            "paths": list(violation.paths),
        },
    }


def _suite(report: Report, label: str) -> str:
    found = [violation for violation in report.violations if violation.platform == label]
    cases = [_case(violation) for violation in found] or [
        f'    <testcase classname={_quoted(report.name)} name="proof"/>'
    ]
    failures = sum(violation.severity == "error" for violation in found)
    head = f'  <testsuite name={_quoted(label or "documents")} tests="{len(cases)}" failures="{failures}" errors="0">'
    return "\n".join((head, *cases, "  </testsuite>"))


def _case(violation: Violation) -> str:
    text = f"{violation.message}\n{violation.hint}\n" + "\n".join(violation.paths)
    tag = "failure" if violation.severity == "error" else "system-out"
    attributes = f" type={_quoted(violation.code)} message={_quoted(violation.message)}" if tag == "failure" else ""
    name = _quoted(f"{violation.code} {violation.path or violation.layer}".strip())
    body = f"<{tag}{attributes}>{escape(_printable(text))}</{tag}>"
    return f"    <testcase classname={_quoted(violation.platform or 'documents')} name={name}>{body}</testcase>"


def _subject(violation: Violation) -> str:
    return f"{violation.platform or 'index'} {violation.path or violation.layer}".strip()


def _printable(text: str) -> str:
    """Names in archives may hold any byte; XML may not."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _quoted(text: str) -> str:
    return quoteattr(_printable(text))


def _uri(text: str) -> str:
    return quote(_printable(text), safe="/:@")
