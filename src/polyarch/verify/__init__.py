"""The proof that an image is what its labels say: a library as well as a command.

`verify(source)` reads the image and returns a `Report`, whose `ok` says whether anything is wrong.
"""

from polyarch.verify.codes import CODES, Code, Severity
from polyarch.verify.facts import LayerCache, LayerFacts, Limits
from polyarch.verify.formats import junit, sarif
from polyarch.verify.prove import verify
from polyarch.verify.report import Entry, Report, Violation
from polyarch.verify.scan import scan

__all__ = [
    "CODES", "Code", "Entry", "LayerCache", "LayerFacts", "Limits", "Report", "Severity", "Violation", "junit", "sarif",
    "scan", "verify",
]  # fmt: skip
