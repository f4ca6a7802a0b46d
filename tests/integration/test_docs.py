"""Every command that the docs show is run, in order, with a registry behind `localhost:5000`."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from harness import Polyarch
from registry_server import registry_server

from conftest import copy_store
from polyarch.oci.layout import Layout

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    lines = "".join(_BLOCK.findall(page.read_text())).splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ polyarch ")]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_every_command_shown_works(
    built: tuple[Polyarch, str], tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polyarch = copy_store(built[0], tmp_path / "home")
    for records in ("builds", "bases"):
        if (built[0].home / records).exists():
            shutil.copytree(built[0].home / records, polyarch.home / records)
    store = Layout(polyarch.home / "images")
    store.rename({"docker.io/library/offering:latest": store.names()["docker.io/library/offering:test"]})
    monkeypatch.chdir(ROOT)
    with registry_server(tmp_path / "registry") as server:
        for command in commands(page):
            if command[1] == "base":
                continue  # `scripts/bases.py` has made it, under whichever name the archive reached here is whole
            polyarch.run(*(word.replace("localhost:5000", server.host) for word in command[1:]))


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
