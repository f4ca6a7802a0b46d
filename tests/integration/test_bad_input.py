"""Bad input gets a clear error and exit 2; nothing is started for it."""

import json
from pathlib import Path

import pytest
from harness import Polyarch, dockerfile

CASES = [
    (("build", "{c}", "--platform", "linux/amd46"), "unknown platform 'linux/amd46'", "linux/amd64"),
    (("build", "{c}/nowhere"), "no folder", "polyarch build PATH"),
    (("build", "{c}", "-f", "{c}/Nofile"), "no Dockerfile at", "-f FILE"),
    (("build", "{c}", "-t", "Not A Name"), "is not an image reference", "for example"),
    (("build", "{c}", "-o", "tarball"), "--output 'tarball' is not understood", "oci:DIR"),
    (("build", "{c}", "--build-arg", "=x"), "--build-arg wants NAME=VALUE", ""),
    (("plan", "{c}", "--platform", "linux/amd64", "--strategy", "linux/s390x=node"), "does not ask for", ""),
    (("plan", "{c}", "--strategy", "=node"), "no platform before the =", "PLATFORM=WAY"),
    (("push", "nothing-here"), "no image nothing-here", "polyarch build"),
    (("push", "a@b"), "is not an image reference", ""),
    (("pull", "127.0.0.1:1/x"), "127.0.0.1:1", ""),
    (("verify", "oci:{c}/none"), "", ""),
    (("run", "127.0.0.1:1/x"), "127.0.0.1:1", ""),
    (("run", "sha256:" + "0" * 64), "no image", "polyarch images"),
    (("base", "alpine:3.20"), "no recipe for a base", "debian:"),
    (("plan", "{c}", "--target", "biuld"), "no stage 'biuld'", "build"),
    (("emulation", "status", "linux/arm65"), "unknown platform", "linux/arm64"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message", "hint"), CASES, ids=lambda value: str(value)[:40])
def test_bad_input_exits_with_2_and_says_what_and_how(
    empty: Polyarch, tmp_path: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    context = dockerfile(tmp_path / "c", "FROM scratch AS build", "COPY Dockerfile /")
    done = empty.run(*(argument.format(c=context) for argument in arguments), code=2)
    assert message in done.stderr
    assert hint in done.stderr
    assert done.stdout == ""


def test_a_syntax_error_names_file_and_line(empty: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM scratch", "", "RNU echo x")
    done = empty.run("build", context, code=2)
    assert f"{context}/Dockerfile:3" in done.stderr
    assert "RUN" in done.stderr


def test_errors_are_json_where_json_was_asked_for(empty: Polyarch, tmp_path: Path) -> None:
    done = empty.run("plan", tmp_path / "none", "--json", code=2)
    error = json.loads(done.stderr)
    assert error["error"] == "InputError"
    assert error["exit_code"] == 2


def test_no_colour_and_no_cursor_movement_where_output_is_no_terminal(empty: Polyarch, tmp_path: Path) -> None:
    done = empty.run("build", tmp_path / "none", code=2)
    assert "\x1b" not in done.stderr


@pytest.mark.slow
def test_a_base_that_lacks_the_platform_is_refused_before_anything_runs(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN true")
    done = polyarch.run("build", context, "--platform", "linux/amd64,linux/arm/v7", code=2)
    assert "base debian:trixie lacks linux/arm/v7: it has linux/amd64, linux/arm64, linux/s390x" in done.stderr
    assert not (polyarch.home / "logs").exists()


@pytest.mark.slow
def test_a_plain_manifest_of_another_platform_is_refused_as_base(polyarch: Polyarch, tmp_path: Path) -> None:
    layout = tmp_path / "l"
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "LABEL a=b")
    polyarch.run("build", context, "--platform", "linux/amd64", "-o", f"oci:{layout}:v")
    top = json.loads((layout / "index.json").read_text())["manifests"][0]
    entry = json.loads((layout / "blobs/sha256" / top["digest"][7:]).read_text())["manifests"][0]
    from polyarch.oci.layout import Layout
    from polyarch.oci.model import parse_document

    store = Layout(polyarch.home / "images")
    store.tag(parse_document(store.read(entry["digest"]), "", "plain"), ["docker.io/library/plain:latest"])
    context = dockerfile(tmp_path / "d", "FROM plain", "RUN true")
    done = polyarch.run("plan", context, "--platform", "linux/s390x", code=2)
    assert "base plain lacks linux/s390x: it is a single image, not an index, and is linux/amd64" in done.stderr
