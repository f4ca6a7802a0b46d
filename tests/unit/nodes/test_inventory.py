"""The user's list of nodes."""

import json
from pathlib import Path

import pytest

from polyarch import places
from polyarch.arch import parse_platform
from polyarch.errors import InputError
from polyarch.nodes import inventory
from polyarch.nodes.model import Address, Node

ONE = Node("one", Address("host", "me", 2222, "/srv"), (parse_platform("arm64"),), 3)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path))


def test_what_is_added_is_there_until_it_is_removed() -> None:
    inventory.add(ONE)
    inventory.add(Node("two", Address("other")))
    assert inventory.find("one") == ONE
    inventory.remove("one")
    assert [node.name for node in inventory.load()] == ["two"]


def test_a_name_is_taken_once_and_an_unknown_one_is_told() -> None:
    inventory.add(ONE)
    with pytest.raises(InputError, match="already"):
        inventory.add(ONE)
    with pytest.raises(InputError) as told:
        inventory.remove("three")
    assert "one" in told.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", '{"nodes": 1}', '{"nodes": [{}]}', '{"nodes": [{"name": "a", "address": "x"}]}']
)
def test_a_damaged_list_is_told_with_its_path(text: str) -> None:
    (places.home() / "nodes.json").write_text(text)
    with pytest.raises(InputError, match="nodes.json"):
        inventory.load()


def test_the_list_is_one_that_people_can_read() -> None:
    inventory.add(ONE)
    kept = json.loads((places.home() / "nodes.json").read_text())
    assert kept == {
        "nodes": [{"name": "one", "address": "ssh://me@host:2222/srv", "platforms": ["linux/arm64"], "slots": 3}]
    }
