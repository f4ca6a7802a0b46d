"""Answers are kept as long as their key is asked for, and a damaged or unwritable file is merely a slow one."""

from pathlib import Path

import pytest

from polyarch.facts.memo import Memo, Rows, fingerprint


def never() -> Rows:
    raise AssertionError("asked again")


def test_an_answer_is_remembered_by_the_next_run(tmp_path: Path) -> None:
    first = Memo(tmp_path / "new" / "probes.json")
    assert first.recall("key", lambda: [["yes"]]) == [["yes"]]
    first.save()
    assert Memo(tmp_path / "new" / "probes.json").recall("key", never) == [["yes"]]


def test_forgetting_asks_again(tmp_path: Path) -> None:
    first = Memo(tmp_path / "p")
    first.recall("key", lambda: [["old"]])
    first.save()
    assert Memo(tmp_path / "p", forget=True).recall("key", lambda: [["new"]]) == [["new"]]


def test_what_is_not_worth_keeping_is_asked_again(tmp_path: Path) -> None:
    first = Memo(tmp_path / "p")
    first.recall("key", lambda: [["no"]], keep=lambda rows: rows == [["yes"]])
    first.save()
    assert Memo(tmp_path / "p").recall("key", lambda: [["yes"]]) == [["yes"]]


def test_keys_that_nobody_asks_for_are_dropped(tmp_path: Path) -> None:
    first = Memo(tmp_path / "p")
    first.recall("old", lambda: [[""]])
    first.save()
    second = Memo(tmp_path / "p")
    second.recall("new", lambda: [[""]])
    second.save()
    assert "old" not in (tmp_path / "p").read_text()


OTHER_VERSION = '{"version": "0", "answers": {"key": [["no"]]}}'


@pytest.mark.parametrize("damage", ["", "{", "[]", "\x00", OTHER_VERSION, '{"answers": {"key": 5}}'])
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, damage: str) -> None:
    (tmp_path / "p").write_text(damage)
    memo = Memo(tmp_path / "p")
    assert memo.recall("key", lambda: [["yes"]]) == [["yes"]]
    memo.save()
    assert Memo(tmp_path / "p").recall("key", never) == [["yes"]]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memo = Memo(tmp_path / "file" / "p")
    memo.recall("key", lambda: [["yes"]])
    memo.save()


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    prints = [fingerprint(path)]
    path.write_text("a")
    prints.append(fingerprint(path))
    path.write_text("ab")
    prints.append(fingerprint(path, None))
    assert len(set(prints)) == 3
