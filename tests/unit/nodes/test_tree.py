"""What goes to a node: only what it lacks, and every tree as it is here."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyarch import run
from polyarch.errors import BuildError
from polyarch.nodes import tree

NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=90)


def unpacked(stream: bytes, folder: Path) -> Path:
    """By tar(1), as on a node."""
    folder.mkdir(exist_ok=True)
    run.capture(["tar", "-xpf", "-", "-C", str(folder)], stdin=stream)
    return folder


def send(entries: list[tree.Entry], node: Path, *, known: bool = False) -> bytes:
    """As a session does it: the whole, or only the tree when the node knows all files."""
    missing = [] if known else list(tree.contents(entries))
    data = b"".join(tree.stream([("work/context", entries)], missing, "work/new"))
    unpacked(data, node)
    return data


def test_a_context_arrives_with_modes_times_and_links(tmp_path: Path) -> None:
    context = tmp_path / "c"
    (context / "deep" / ("long" * 40)).mkdir(parents=True)
    (context / "deep" / ("long" * 40) / "name").write_text("x")
    (context / "run.sh").write_text("#!/bin/sh\n")
    (context / "run.sh").chmod(0o755)
    (context / "link").symlink_to("run.sh")
    (context / "skipped").write_text("no")
    (context / ".dockerignore").write_text("skipped\n")
    entries = tree.of_context(context, context / ".dockerignore")
    send(entries, tmp_path / "node")
    there = tmp_path / "node" / "work" / "context"
    assert (there / "deep" / ("long" * 40) / "name").read_text() == "x"
    assert (there / "run.sh").stat().st_mode & 0o777 == 0o755
    assert int((there / "run.sh").stat().st_mtime) == int((context / "run.sh").stat().st_mtime)
    assert (there / "link").readlink() == Path("run.sh")
    assert not (there / "skipped").exists()


def test_what_the_node_has_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"y" * 100_000)
    entries = [entry for entry in tree.of_context(tmp_path, None) if entry.content]
    first = send(entries, tmp_path / "node")
    (tmp_path / "node" / "work" / "new").rename(tmp_path / "node" / "files")
    again = b"".join(tree.stream([("work/again", entries)], [], "work/new2"))
    unpacked(again, tmp_path / "node")
    assert (tmp_path / "node" / "work" / "again" / "big").read_bytes() == b"y" * 100_000
    assert len(first) > 100_000 > len(again)


def test_a_file_that_changes_while_it_is_sent_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    entries = tree.of_context(tmp_path, None)
    (tmp_path / "a").write_text("after!")
    with pytest.raises(BuildError, match="changed while"):
        send(entries, tmp_path / "node")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=90), st.binary()
    )
)
def test_any_name_and_content_arrives(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "c").mkdir()
    wanted = {name: data for name, data in files.items() if name not in {".", ".."} and len(name.encode()) < 255}
    for name, data in wanted.items():
        (folder / "c" / name).write_bytes(data)
    send(tree.of_context(folder / "c", None), folder / "node")
    there = folder / "node" / "work" / "context"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == wanted
