"""Builds of small Dockerfiles: what goes wrong is told, and what is asked for is done."""

import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from harness import Polyarch, dockerfile, events

from conftest import copy_store
from polyarch.oci.layout import Layout
from polyarch.oci.model import Index, Manifest

pytestmark = pytest.mark.slow


def test_a_failed_step_names_platform_line_and_last_words(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "", "RUN echo fine", "RUN echo last words; exit 9")
    done = polyarch.run("build", context, "-t", "bad", "--platform", "linux/arm64", code=1)
    assert f"linux/arm64: {context}/Dockerfile:4: RUN echo last words; exit 9" in done.stderr
    assert "last words" in done.stderr
    assert "linux-arm64.log" in done.stderr


def test_a_failed_build_leaves_the_old_tag(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN true")
    digest = polyarch.json("build", context, "-t", "app", "--platform", "linux/amd64")["digest"]
    dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN false")
    polyarch.run("build", context, "-t", "app", "--platform", "linux/amd64", code=1)
    images = {image["name"]: image["digest"] for image in polyarch.json("images")}
    assert images["docker.io/library/app:latest"] == digest


FAILS_ON_ARM = ("FROM debian:trixie", "ARG TARGETARCH", 'RUN if [ "$TARGETARCH" = arm64 ]; then exit 3; fi; sleep 3')


def test_the_first_failure_cancels_the_other_platforms(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", *FAILS_ON_ARM[:2], 'RUN [ "$TARGETARCH" != arm64 ] || exit 3; sleep 60')
    done = polyarch.run("build", context, "-t", "x", "--platform", "linux/amd64,linux/arm64", "--json", code=1)
    kinds = {(event["kind"], event["subject"]) for event in events(done.stderr) if "kind" in event}
    assert ("failed", "linux/arm64") in kinds
    assert ("cancelled", "linux/amd64") in kinds


def test_keep_going_finishes_the_others_and_keeps_them(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", *FAILS_ON_ARM)
    arguments = ("build", context, "-t", "x", "--keep-going", "--platform", "linux/amd64,linux/arm64")
    polyarch.run(*arguments, code=1)
    assert "x:latest" not in polyarch.run("images").stdout
    kept = polyarch.json("build", context, "-t", "x", "--platform", "linux/amd64")
    assert kept["images"][0]["reused"]


def test_exec_format_error_is_explained(polyarch: Polyarch, tmp_path: Path) -> None:
    """A program for a platform that nobody was asked to execute: here, an s390x one in an arm64 image."""
    from polyarch.arch import parse_platform
    from polyarch.facts.programs import smallest

    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "COPY alien /alien", 'RUN ["/alien"]')
    (context / "alien").write_bytes(smallest(parse_platform("s390x")))
    (context / "alien").chmod(0o755)
    done = polyarch.run("build", context, "-t", "x", "--platform", "linux/arm64", code=1)
    message = done.stderr.splitlines()
    assert any("a program of another architecture was executed" in line for line in message)
    assert any("Dockerfile:3" in line for line in message)
    assert "TARGETARCH" in done.stderr
    assert "/alien is a program for linux/s390x, and the stage runs linux/arm64 programs" in done.stderr


def test_a_script_without_an_interpreter_is_no_matter_of_architectures(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "COPY --chmod=755 script /", 'RUN ["/script"]')
    (context / "script").write_text("echo hello\n")
    done = polyarch.run("build", context, "-t", "x", "--platform", "linux/amd64", code=1)
    assert "a file that is no program was executed in" in done.stderr
    assert "write the interpreter into #!" in done.stderr


def test_a_target_program_in_a_pinned_stage_is_told_before_and_after(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c",
        "FROM debian:trixie AS made",
        "COPY text /text",
        "FROM --platform=$BUILDPLATFORM debian:trixie AS tools",
        "COPY --from=made /usr/bin/true /usr/local/bin/made",
        "RUN made > /out",
        "FROM scratch",
        "COPY --from=tools /out /out",
    )
    (context / "text").touch()
    said = "stage tools runs linux/amd64 programs, but this RUN executes made, which is linux/arm64's"
    planned = polyarch.json("plan", context, "--platform", "linux/arm64")["platforms"][0]["warnings"]
    assert [warning["line"] for warning in planned] == [5]
    assert said in planned[0]["message"]
    done = polyarch.run("build", context, "--platform", "linux/arm64", code=1)
    before, _, after = done.stderr.partition("error:")
    assert said in before
    assert said in after
    assert "Dockerfile:5" in after
    assert "pin stage made to $BUILDPLATFORM" in after


def test_the_gate_stops_an_image_that_holds_foreign_programs(polyarch: Polyarch, tmp_path: Path) -> None:
    from polyarch.arch import parse_platform
    from polyarch.facts.programs import smallest

    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "COPY alien /usr/local/bin/alien")
    (context / "alien").write_bytes(smallest(parse_platform("amd64")))
    (context / "alien").chmod(0o755)
    done = polyarch.run("build", context, "-t", "x", "--platform", "linux/arm64", code=3)
    assert "/usr/local/bin/alien" in done.stderr.replace("usr/local", "/usr/local").replace("//", "/")
    assert "x:latest" not in polyarch.run("images").stdout


def test_a_secret_is_there_while_it_runs_and_nowhere_after(polyarch: Polyarch, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hunter2hunter2")
    context = dockerfile(
        tmp_path / "c", "FROM debian:trixie", "RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length"
    )
    out = tmp_path / "out.tar"
    done = polyarch.run(
        "build", context, "-t", "s", "--platform", "linux/amd64", "--secret", f"id=token,src={secret}",
        "-o", f"oci-archive:{out}",
    )  # fmt: skip
    said = polyarch.run("run", "s", "--", "sh", "-c", "cat /length; ls /run/secrets 2>/dev/null | wc -l")
    assert said.stdout.split() == ["14", "0"]
    assert b"hunter2hunter2" not in out.read_bytes()
    assert "hunter2hunter2" not in done.stderr + done.stdout
    logs = "".join(path.read_text() for path in (polyarch.home / "logs").rglob("*.log"))
    assert "hunter2hunter2" not in logs


def test_here_documents_arguments_and_stages_work_on_old_buildah(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c",
        "ARG GREETING=hello",
        "FROM --platform=$BUILDPLATFORM debian:trixie AS tools",
        "ARG TARGETARCH BUILDARCH",
        "RUN echo $BUILDARCH-$TARGETARCH-$(uname -m) > /where",
        "FROM debian:trixie AS unused",
        "RUN exit 1",
        "FROM debian:trixie",
        "ARG GREETING",
        "ENV WHO=world",
        "RUN <<EOF",
        'echo "$GREETING $WHO" > /greeting',
        "uname -m >> /greeting",
        "EOF",
        'COPY <<-"END" /etc/app.conf',
        "\tkey=$VALUE",
        "END",
        "COPY --from=tools /where /where",
        'CMD ["cat", "/greeting", "/etc/app.conf", "/where"]',
    )
    polyarch.run(
        "build", context, "-t", "h", "--platform", "linux/arm64", "--build-arg", "GREETING=good day", "--target", "2"
    )
    said = polyarch.run("run", "h", "--platform", "linux/arm64")
    assert said.stdout.splitlines() == ["good day world", "aarch64", "key=$VALUE", "amd64-arm64-x86_64"]


def test_outputs_are_layouts_and_archives_that_skopeo_reads(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "LABEL a=b")
    folder, archive = tmp_path / "layout", tmp_path / "a.tar"
    polyarch.run(
        "build",
        context,
        "--platform",
        "linux/amd64,linux/arm64",
        "-o",
        f"oci:{folder}:v1",
        "-o",
        f"type=oci,dest={archive}",
    )
    index = json.loads((folder / "index.json").read_text())
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    assert polyarch.json("verify", f"oci:{folder}:v1")["ok"]
    with tarfile.open(archive) as tar:
        assert {"oci-layout", "index.json"} <= set(tar.getnames())
    assert polyarch.json("verify", f"oci-archive:{archive}")["ok"]


def test_docker_format_makes_a_docker_list_and_keeps_the_health_check(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "HEALTHCHECK CMD true")
    folder = tmp_path / "layout"
    polyarch.run(
        "build", context, "--platform", "linux/amd64,linux/arm64", "--format", "docker", "-o", f"oci:{folder}:v1"
    )
    top = json.loads((folder / "index.json").read_text())["manifests"][0]
    assert top["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    entries = json.loads((folder / "blobs/sha256" / top["digest"][7:]).read_text())["manifests"]
    manifest = json.loads((folder / "blobs/sha256" / entries[1]["digest"][7:]).read_text())
    assert entries[1]["platform"] == {"os": "linux", "architecture": "arm64"}
    assert manifest["layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    config = json.loads((folder / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())
    assert config["config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert polyarch.json("verify", f"oci:{folder}:v1")["ok"]


def test_the_base_keeps_its_very_blob(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN echo x > /x")
    polyarch.run("build", context, "-t", "x", "--platform", "linux/amd64")
    layers = {}
    for name in ("debian:trixie", "x"):
        folder = tmp_path / name.replace(":", "-")
        context = dockerfile(tmp_path / f"c-{folder.name}", f"FROM {name}")
        polyarch.run("build", context, "--platform", "linux/amd64", "-o", f"oci:{folder}:v")
        top = json.loads((folder / "index.json").read_text())["manifests"][0]
        entry = json.loads((folder / "blobs/sha256" / top["digest"][7:]).read_text())["manifests"][0]
        manifest = json.loads((folder / "blobs/sha256" / entry["digest"][7:]).read_text())
        layers[name] = [layer["digest"] for layer in manifest["layers"]]
    assert layers["x"][0] == layers["debian:trixie"][0]


def test_a_changed_context_is_built_anew(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "COPY file /file")
    (context / "file").write_text("one")
    arguments = ("build", context, "-t", "c", "--platform", "linux/amd64")
    first = polyarch.json(*arguments)
    (context / "file").write_text("two")
    second = polyarch.json(*arguments)
    assert not second["images"][0]["reused"]
    assert second["digest"] != first["digest"]
    assert polyarch.run("run", "c", "--", "cat", "/file").stdout == "two"


def test_the_shell_of_the_dockerfile_runs_its_steps(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c", "FROM debian:trixie", 'SHELL ["/bin/bash", "-o", "pipefail", "-c"]', "RUN false | true"
    )
    polyarch.run("build", context, "-t", "x", "--platform", "linux/amd64", code=1)


def test_a_damaged_record_or_blob_is_built_again(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN echo x > /x")
    arguments = ("build", context, "-t", "x", "--platform", "linux/amd64")
    first = polyarch.json(*arguments)
    for record in (polyarch.home / "builds").iterdir():
        record.write_text("{garbage")
    again = polyarch.json(*arguments)
    assert not again["images"][0]["reused"]
    assert again["digest"] == first["digest"]


def test_what_cannot_be_asked_of_a_build_is_told_before_it_starts(empty: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM scratch", "COPY Dockerfile /")
    for wrong, said in (
        (("-t", "a@sha256:" + "0" * 64), "names a digest"),
        (("--push",), "--push needs a name"),
        (("--secret", "id=x,src=nowhere"), "there is no file nowhere"),
        (("--secret", "x"), "--secret wants"),
    ):
        assert said in empty.run("build", context, *wrong, code=2).stderr


def test_a_users_umask_does_not_reach_the_image(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "USER www-data", "RUN id -u")
    old = os.umask(0o077)
    try:
        polyarch.run("build", context, "-t", "x", "--platform", "linux/amd64")
    finally:
        os.umask(old)


def test_an_additional_context_is_copied_and_mounted_from(polyarch: Polyarch, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "word").write_text("one\n")
    (extra / ".dockerignore").write_text("word\n")  # of no meaning here
    folder = dockerfile(
        tmp_path / "c",
        "FROM debian:trixie AS made",
        "RUN --mount=from=more,target=/more --mount=target=/own cat /more/word /own/word >/mounted",
        "FROM scratch",
        "COPY --from=made /mounted /",
        "COPY --from=more word /",
    )
    words = []
    for word in ("one\n", "two\n"):
        (extra / "word").write_text(word)
        (folder / "word").write_text(f"own {word}")
        output = tmp_path / word.strip()
        polyarch.run("build", folder, "--build-context", f"more={extra}", "-o", f"oci:{output}")
        words.append({name: text for layer in layers(output) for name, text in layer.items()})
    assert words == [{"mounted": f"{w}\nown {w}\n", "word": f"{w}\n"} for w in ("one", "two")]
    assert "there is no folder" in polyarch.run("build", folder, "--build-context", "more=/none", code=2).stderr


def test_an_agent_is_lent_to_the_step_that_asks_for_it(kept: Polyarch, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pa-") as short:  # buildah's socket lies in the store: at most 107 bytes
        _lent(copy_store(kept, Path(short) / "h"), tmp_path)


def _lent(polyarch: Polyarch, tmp_path: Path) -> None:
    steps = ("RUN --mount=type=ssh test -S $SSH_AUTH_SOCK", "RUN test -z $SSH_AUTH_SOCK")
    folder = dockerfile(tmp_path / "c", "FROM debian:trixie", *steps)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "agent").exists():
            assert agent.poll() is None
        polyarch.run("build", folder, "--ssh", "default", env={"SSH_AUTH_SOCK": str(tmp_path / "agent")})
    finally:
        agent.kill()
        agent.wait()
    done = polyarch.run("build", folder, "--ssh", "default", env={"SSH_AUTH_SOCK": ""}, code=2)
    assert "no agent or key" in done.stderr


def layers(layout: Path) -> list[dict[str, str]]:
    """The files of each layer of the only image of a layout, with their text."""
    source = Layout(layout)
    index = source.find("")
    assert index is not None
    assert isinstance(index.value, Index)
    manifest = source.document(index.value.manifests[0]).value
    assert isinstance(manifest, Manifest)
    found = []
    for layer in manifest.layers:
        with tarfile.open(source.blob_path(layer.digest)) as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            found.append({name: file.read().decode() for name, file in files.items() if file})
    return found
