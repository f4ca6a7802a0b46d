"""The store as a user keeps it: names removed, room freed, damage shown and mended."""

import fcntl
import json
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from harness import Polyarch, dockerfile
from registry_server import registry_server


def _build(polyarch: Polyarch, folder: Path, name: str, content: str = "x\n") -> None:
    dockerfile(folder, "FROM scratch", "COPY a /")
    (folder / "a").write_text(content)
    polyarch.run("build", folder, "-t", name)


def _blobs(polyarch: Polyarch) -> list[Path]:
    return [path for path in (polyarch.home / "images" / "blobs").glob("*/*") if path.is_file()]


def test_removed_names_free_their_room_with_prune(empty: Polyarch, tmp_path: Path) -> None:
    _build(empty, tmp_path / "one", "one")
    _build(empty, tmp_path / "two", "two", "y\n")
    assert empty.run("rmi", "one").stdout == "docker.io/library/one:latest\n"
    assert empty.json("prune", "--build-cache")["blobs"] > 0
    assert not (empty.home / "storage").exists()
    assert [row["name"] for row in empty.json("images")] == ["docker.io/library/two:latest"]
    empty.run("verify", "two")
    empty.run("rmi", "two")
    empty.run("prune")
    assert _blobs(empty) == []
    _build(empty, tmp_path / "one", "one")
    empty.run("verify", "one")


def test_a_name_that_is_not_there_is_not_removed(empty: Polyarch) -> None:
    assert "no image docker.io/library/nobody:latest" in empty.run("rmi", "nobody", code=2).stderr


def test_prune_keeps_away_from_a_store_in_use(empty: Polyarch) -> None:
    empty.home.mkdir(parents=True, exist_ok=True)
    with (empty.home / "store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert "another polyarch uses the store" in empty.run("prune", code=2).stderr


def test_a_damaged_image_is_listed_and_can_be_removed(empty: Polyarch, tmp_path: Path) -> None:
    _build(empty, tmp_path / "fine", "fine")
    _build(empty, tmp_path / "bad", "bad", "y\n")
    digest = next(row["digest"] for row in empty.json("images") if "bad" in row["name"])
    (empty.home / "images" / "blobs" / "sha256" / digest.partition(":")[2]).unlink()
    found = {row["name"]: row for row in empty.json("images")}
    assert "missing" in found["docker.io/library/bad:latest"]["damage"]
    assert found["docker.io/library/fine:latest"]["platforms"]
    assert "damaged" in empty.run("images").stdout
    empty.run("rmi", "bad")


def test_a_pull_replaces_what_went_bad_in_the_store(empty: Polyarch, tmp_path: Path) -> None:
    with registry_server(tmp_path / "registry") as server:
        name = f"{server.host}/one:1"
        _build(empty, tmp_path / "one", name)
        empty.run("push", name, "--tls-verify=false")
        for path in _blobs(empty):
            if path.stat().st_size < 150:  # the layer
                path.write_bytes(bytes(path.stat().st_size))
        empty.run("verify", name, code=3)
        empty.run("pull", name, "--tls-verify=false")
    empty.run("verify", name)


def test_a_failing_output_leaves_the_name_where_it_was(empty: Polyarch, tmp_path: Path) -> None:
    _build(empty, tmp_path / "one", "one")
    before = empty.json("images")
    (tmp_path / "one" / "a").write_text("changed\n")
    (tmp_path / "file").write_text("in the way\n")
    empty.run("build", tmp_path / "one", "-t", "one", "-o", f"oci:{tmp_path}/file/out", code=4)
    assert empty.json("images") == before


def test_an_output_layout_holds_only_what_the_specification_names(empty: Polyarch, tmp_path: Path) -> None:
    _build(empty, tmp_path / "one", "one")
    empty.run("build", tmp_path / "one", "-o", f"oci:{tmp_path}/out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"blobs", "index.json", "oci-layout"}


def test_a_healthcheck_that_the_format_cannot_hold_is_told(empty: Polyarch, tmp_path: Path) -> None:
    folder = dockerfile(tmp_path / "c", "FROM scratch", "HEALTHCHECK CMD true", "COPY Dockerfile /")
    assert "line 2: the OCI format has no HEALTHCHECK" in empty.run("build", folder, "-t", "h").stderr
    assert "left out" not in empty.run("build", folder, "-t", "h", "--format", "docker").stderr


def test_a_dockerfile_is_read_from_standard_input(empty: Polyarch, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\n")
    argv, text = empty.argv("build", tmp_path, "-f", "-", "-t", "in"), "FROM scratch\nCOPY a /\n"
    done = subprocess.run(argv, env=empty.env, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    empty.run("verify", "in")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("build", "Dockerfile"), "polyarch build -f Dockerfile ."),
        (("build", "https://git.example/x.git"), "clone or unpack it"),
        (("verify", "./folder"), "oci:./folder"),
        (("run", "--platform", "linux/amd64,linux/arm64", "x"), "run each on its own"),
    ],
)
def test_a_slip_is_answered_with_what_to_write(
    empty: Polyarch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "folder").mkdir()
    assert hint in empty.run(*arguments, code=2).stderr


def test_usage_errors_are_json_where_json_is_asked_for(empty: Polyarch) -> None:
    said = json.loads(empty.run("build", "--nope", ".", "--json", code=2).stderr)
    assert "--nope" in said["message"]
    assert said["exit_code"] == 2


def test_an_image_of_podmans_storage_serves_as_base(empty: Polyarch, tmp_path: Path) -> None:
    config = tmp_path / "storage.conf"
    config.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    env = {"CONTAINERS_STORAGE_CONF": str(config)}
    _build(empty, tmp_path / "one", "one")
    source = f"oci:{tmp_path}/out:one"
    empty.run("build", tmp_path / "one", "-o", source)
    subprocess.run(
        ["skopeo", "copy", "-q", source, "containers-storage:localhost/own:1"], env=empty.env | env, check=True
    )
    empty.run("rmi", "one")
    folder = dockerfile(tmp_path / "two", "FROM localhost/own:1", "COPY b /")
    (folder / "b").write_text("b\n")
    empty.run("build", folder, "-t", "two", env=env)
    empty.run("verify", "two")


def test_a_remote_file_that_changed_is_added_anew(empty: Polyarch, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    digests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        folder = dockerfile(tmp_path / "c", "FROM scratch", f"ADD http://127.0.0.1:{server.server_port}/f /f")
        for content in ("one\n", "two\n"):
            (tmp_path / "www" / "f").write_text(content)
            digests.append(empty.json("build", folder, "-t", "added")["digest"])
        server.shutdown()
    assert digests[0] != digests[1]
