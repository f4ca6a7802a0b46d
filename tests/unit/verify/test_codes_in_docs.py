"""`docs/verify.md` says what the proof does: its table of codes is made by running this file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from verify_images import image

from polyarch.oci.layout import Layout
from polyarch.verify import CODES

PAGE = Path(__file__).parents[3] / "docs" / "verify.md"
_TABLE = re.compile(r"(<!-- codes: [^\n]*-->\n).*?(<!-- end of codes -->)", re.DOTALL)


def with_table(text: str) -> str:
    rows = ["| code | severity | what is wrong | what mends it | allowed |", "|---|---|---|---|---|"]
    rows += [
        f"| `{c.name}` | {c.severity} | {c.title} | {c.hint} | {'yes' if c.allowable else ''} |" for c in CODES.values()
    ]
    return _TABLE.sub(lambda found: found[1] + "\n".join(rows) + "\n" + found[2], text)


def test_the_page_lists_every_code_as_it_is() -> None:
    text = PAGE.read_text()
    assert _TABLE.search(text)
    assert text == with_table(text)


def test_the_example_of_the_library_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example
    monkeypatch.chdir(tmp_path)
    layout, shelf = Layout(tmp_path / "build"), image()
    for data in shelf.blobs.values():
        layout.add(data)
    layout.tag(shelf.top(), ["app"])
    exec(example[1], {})


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
