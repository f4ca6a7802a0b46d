"""Proofs of twins are found again only for the very same files and commands, and only if this store signed them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polyarch.arch import ARCHES, host_platform, parse_platform
from polyarch.emulation.twins import catalogue, corpus, proofs
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.pair import Coverage, Twin

TWIN = Twin(Tool("usr/bin/sed", "sed"), "ab12", 100, Path("/p"), Path("/l"), (("libc.so.6", Path("/c")),))


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))


def test_a_proof_is_of_one_pair_of_files() -> None:
    assert proofs.find(TWIN) is None
    proofs.keep(TWIN, "")
    assert proofs.find(TWIN) == ""
    for other in (replace(TWIN, size=101), replace(TWIN, libraries=()), replace(TWIN, program=Path("/q"))):
        assert proofs.find(other) is None


def test_a_twin_that_answered_otherwise_is_not_used() -> None:
    proofs.keep(TWIN, "status of `sed`")
    left = proofs.without_disproved(Coverage((TWIN, replace(TWIN, size=101))))
    assert left.twins == (replace(TWIN, size=101),)
    assert left.missing == ((TWIN.tool, "it answered otherwise: status of `sed`"),)


def test_what_this_store_did_not_sign_is_no_proof(tmp_path: Path) -> None:
    proofs.keep(TWIN, "status of `sed`")
    (path,) = (tmp_path / "cache").rglob("proofs/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"outcome": "same"}))
    assert proofs.find(TWIN) is None
    path.write_text("{")
    assert proofs.find(TWIN) is None
    proofs.keep(TWIN, "")
    assert (tmp_path / "home" / "proof.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "home" / "proof.key").unlink()
    assert proofs.find(TWIN) is None


def test_every_command_is_for_a_tool_and_every_tool_of_a_base_has_one() -> None:
    tools = {tool.name for tool in catalogue.base_tools(ARCHES[parse_platform("linux/arm64")], ARCHES[host_platform()])}
    assert set(corpus.CASES) == tools
