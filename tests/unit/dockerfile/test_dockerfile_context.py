"""What of a folder builders may see, and when its digest changes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.dockerfile.context import context_digest, context_files, ignore_file, load_ignore, parse_ignore
from polyarch.errors import InputError


def _tree(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def _digest(root: Path) -> str:
    return context_digest(root, root / "Dockerfile")


# The examples of Docker's manual ("Build context", section ".dockerignore files") and moby/patternmatcher's rules.
@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "somedir/temp/below", True),
        ("*/temp*", "temp.txt", False),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("*/*/temp*", "somedir/temporary.txt", False),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("temp?", "temp/a", False),
        ("**/*.go", "a.go", True),
        ("**/*.go", "x/y/a.go", True),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "x.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("*.md", "docs/x.md", False),
        ("/foo/bar", "foo/bar", True),
        ("foo/bar", "x/foo/bar", False),
        ("foo", "foo/bar/baz", True),
        ("foo/", "foo/bar", True),
        ("foo/../bar", "bar", True),
        ("./foo", "foo", True),
        ("foo\n!foo/keep", "foo/keep", False),
        ("foo\n!foo/keep", "foo/keep/below", False),
        ("foo\n!foo/keep", "foo/other", True),
        ("**\n!src", "src/a", False),
        ("**\n!src", "other", True),
        ("*\n!src/**/*.c", "src/x/a.c", False),
        ("*\n!src/**/*.c", "src/x/a.h", True),
        ("# foo", "foo", False),
        ("#foo", "#foo", False),
        (" foo ", "foo", True),
        ("\n\nfoo\r\n", "foo", True),
        ("[a-c].txt", "b.txt", True),
        ("[^a-c].txt", "b.txt", False),
        ("\\#foo", "#foo", True),
        ("\\*", "x", False),
        ("a**/b", "ax/y/b", True),
        ("**/foo", "foo", True),
        ("foo/**", "foo/x", True),
        ("**/.git", "x/.git/config", True),
        (".dockerignore\nDockerfile", "Dockerfile", True),
    ],
)
def test_patterns_mean_what_docker_says(patterns: str, path: str, ignored: bool) -> None:
    assert parse_ignore(patterns, ".dockerignore").ignores(path) is ignored


@pytest.mark.parametrize("pattern", ["[", "!", "a[b-]", "a\\"])
def test_a_pattern_that_is_none_is_told_with_its_line(pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ignore(f"ok\n{pattern}", ".dockerignore")
    assert caught.value.detail.startswith(".dockerignore:2: ")


def test_an_ignore_file_beside_the_dockerfile_wins(tmp_path: Path) -> None:
    dockerfile = tmp_path / "docker" / "Prod.Dockerfile"
    _tree(tmp_path, ".dockerignore", "docker/Prod.Dockerfile")
    assert ignore_file(tmp_path, dockerfile) == tmp_path / ".dockerignore"
    own = dockerfile.with_name("Prod.Dockerfile.dockerignore")
    own.write_text("x")
    assert ignore_file(tmp_path, dockerfile) == own
    assert ignore_file(tmp_path / "docker", tmp_path / "docker" / "other") is None


def test_folders_lead_to_what_is_brought_back_and_others_are_not_entered(tmp_path: Path) -> None:
    _tree(tmp_path, "a/keep/x", "a/drop/y", "b/z")
    found = context_files(tmp_path, parse_ignore("*\n!a/keep", "f"))
    assert found == ["a", "a/keep", "a/keep/x"]


def test_an_ignored_folder_may_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "secret/x", "open")
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert context_files(tmp_path, parse_ignore("secret", "f")) == ["open"]
    with pytest.raises(InputError, match="secret"):
        context_files(tmp_path, parse_ignore("", "f"))


def test_a_missing_context_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        _digest(tmp_path / "nowhere")


def test_links_are_not_followed_and_sockets_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert context_files(tmp_path, load_ignore(None)) == ["dangling", "loop"]
    assert _digest(tmp_path).startswith("sha256:")


def test_the_digest_does_not_know_times(tmp_path: Path) -> None:
    _tree(tmp_path, "a", "b/c")
    before = _digest(tmp_path)
    for path in ("a", "b", "b/c"):
        os.utime(tmp_path / path, (1, 1))
    assert _digest(tmp_path) == before


def test_the_digest_does_not_know_what_is_ignored(tmp_path: Path) -> None:
    _tree(tmp_path, "a")
    (tmp_path / ".dockerignore").write_text("*.log\n")
    before = _digest(tmp_path)
    _tree(tmp_path, "x.log")
    assert _digest(tmp_path) == before


def test_the_digest_changes_with_content_mode_name_kind_and_target(tmp_path: Path) -> None:
    _tree(tmp_path, "a", "b")
    (tmp_path / "l").symlink_to("a")
    seen = {_digest(tmp_path)}

    def changed() -> None:
        digest = _digest(tmp_path)
        assert digest not in seen
        seen.add(digest)

    (tmp_path / "a").write_text("other")
    changed()
    (tmp_path / "a").chmod(0o755)
    changed()
    (tmp_path / "a").rename(tmp_path / "c")
    changed()
    (tmp_path / "l").unlink()
    (tmp_path / "l").symlink_to("b")
    changed()
    (tmp_path / "l").unlink()
    (tmp_path / "l").write_text("b")
    changed()
    (tmp_path / "empty").mkdir()
    changed()


_NAMES = st.text("ab.", min_size=1, max_size=2).filter(lambda name: name not in {".", ".."})
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_PATTERNS = st.lists(
    st.tuples(st.sampled_from(["", "!"]), st.lists(_NAMES | st.sampled_from(["*", "**", "?"]), min_size=1, max_size=3))
    .map(lambda parts: parts[0] + "/".join(parts[1])),
    max_size=5,
).map("\n".join)  # fmt: skip


@given(_PATTERNS, st.lists(_PATHS, min_size=1, max_size=6))
def test_skipping_folders_loses_no_file(tmp_path_factory: pytest.TempPathFactory, text: str, paths: list[str]) -> None:
    root = tmp_path_factory.mktemp("context")
    for path in paths:
        if not (root / path).exists() and all(not (root / above).is_file() for above in Path(path).parents):
            _tree(root, path)
    ignore = parse_ignore(text, "f")
    everything = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    found = [path for path in context_files(root, ignore) if (root / path).is_file()]
    assert found == sorted(path for path in everything if not ignore.ignores(path))


@given(st.text() | _PATTERNS)
def test_any_ignore_file_is_read_or_refused_with_an_input_error(text: str) -> None:
    detail = "f:"
    try:
        parse_ignore(text, "f").ignores("a/b/c")
    except InputError as error:
        detail = error.detail
    assert detail.startswith("f:")
