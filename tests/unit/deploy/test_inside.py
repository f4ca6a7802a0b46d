"""What stands between a program and the host: paths that never lead out of the root, users by the image's own files."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyarch.deploy import inside, local
from polyarch.errors import InputError

PIECES = st.sampled_from(["a", "b", "..", ".", "link", "out", "up", ""])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "link").symlink_to("/b")
    (root / "out").symlink_to("../../../../etc")
    (root / "a" / "up").symlink_to("..")
    (root / "link").symlink_to("link")  # a circle
    return root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=12))
def test_no_path_leads_out_of_the_root(root: Path, pieces: list[str]) -> None:
    found = inside._within(root, "/" + "/".join(pieces))
    assert found == root or root in found.parents
    assert ".." not in found.relative_to(root).parts


def test_links_are_taken_as_the_container_takes_them(root: Path) -> None:
    assert inside._within(root, "/a/link/x") == root / "b" / "x"
    assert inside._within(root, "/out/passwd") == root / "etc" / "passwd"
    assert inside._within(root, "/a/up/b") == root / "b"


PASSWD = [["root", "x", "0", "0", "", "/root", "sh"], ["app", "x", "42", "43", "", "/app", "sh"]]
GROUP = [["root", "x", "0", ""], ["team", "x", "7", "app,other"], ["own", "x", "43", ""]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", (0, 0, [0], "/root")),
        ("app", (42, 43, [7, 43], "/app")),
        ("42", (42, 43, [7, 43], "/app")),
        ("app:team", (42, 7, [7], "/app")),
        ("1000", (1000, 0, [0], "/")),
        ("1000:1001", (1000, 1001, [1001], "/")),
    ],
)
def test_users_are_those_of_the_image(
    monkeypatch: pytest.MonkeyPatch, text: str, found: tuple[int, int, list[int], str]
) -> None:
    monkeypatch.setattr(inside, "_entries", lambda path: PASSWD if path == "/etc/passwd" else GROUP)
    assert inside._user(text) == found


@pytest.mark.parametrize("text", ["nobody-here", "app:no-such-group"])
def test_a_user_that_the_image_lacks_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(inside, "_entries", lambda path: PASSWD if path == "/etc/passwd" else GROUP)
    with pytest.raises(LookupError, match="the image has no"):
        inside._user(text)


def test_a_volume_is_an_absolute_path_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    assert local._volume("here:/there:ro") == (str(tmp_path / "here"), "/there", True)
    assert local._volume("./here:/there") == (str(tmp_path / "here"), "/there", False)


@pytest.mark.parametrize("text", ["", "a", "/etc", "/etc:", "/etc:relative", "/no/such:/x", "/etc:/x:shared", ":/x"])
def test_a_volume_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--volume"):
        local._volume(text)
