"""Layers that hold nothing of one architecture serve every platform; what holds something is found and built."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from harness import Polyarch, dockerfile, events

from conftest import EXAMPLE, PLATFORMS

pytestmark = pytest.mark.slow

ALL = ("--platform", ",".join(PLATFORMS))
FOREIGN = ("linux/arm64", "linux/s390x")


@pytest.fixture
def pure(tmp_path: Path) -> Path:
    """A context whose image holds a script and what a build stage made of text."""
    context = dockerfile(
        tmp_path / "pure",
        "FROM debian:trixie AS site",
        "RUN uname -m > /machine && mkdir /out && echo '<h1>hello</h1>' > /out/index.html",
        "FROM debian:trixie",
        "ENV GREETING=hello",
        "WORKDIR /app",
        "COPY --chmod=755 greet .",
        "COPY --from=site /out /srv",
        "RUN useradd --system --uid 10001 app && ln -s /app/greet /usr/local/bin/greet",
        "USER app",
        'ENTRYPOINT ["/app/greet"]',
    )
    (context / "greet").write_text('#!/bin/sh\necho "$GREETING from $(uname -m) as $(id -un)"\ncat /srv/index.html\n')
    return context


def mixed(tmp_path: Path) -> Path:
    """A context whose second layer is of one architecture."""
    return dockerfile(
        tmp_path / "mixed",
        "FROM debian:trixie",
        "RUN echo fine > /etc/fine",
        "RUN cp /usr/bin/true /usr/local/bin/native",
        'CMD ["/usr/local/bin/native"]',
    )


def images(polyarch: Polyarch, *args: str | Path) -> dict[str, Any]:
    return {image["platform"]: image for image in polyarch.json("build", *args)["images"]}


def manifest(polyarch: Polyarch, digest: str) -> Any:
    return json.loads((polyarch.home / "images" / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())


def notes(stderr: str) -> list[str]:
    return [event["text"] for event in events(stderr) if event.get("kind") == "note"]


def test_a_pure_image_is_grafted_proved_and_runs_everywhere(polyarch: Polyarch, pure: Path) -> None:
    made = images(polyarch, pure, "-t", "pure", *ALL)
    assert {platform for platform, image in made.items() if image["grafted"]} == set(FOREIGN)
    native, arm, s390x = (manifest(polyarch, made[platform]["digest"]) for platform in PLATFORMS)
    assert native["layers"][1:] == arm["layers"][1:] == s390x["layers"][1:]
    assert len({one["layers"][0]["digest"] for one in (native, arm, s390x)}) == 3
    promise = json.loads(arm["annotations"]["io.polyarch.graft"])
    assert promise["native"] == made["linux/amd64"]["digest"]
    config = manifest(polyarch, arm["config"]["digest"])
    assert config["architecture"] == "arm64"
    assert "GREETING=hello" in config["config"]["Env"]
    assert any("useradd" in step["created_by"] for step in config["history"])
    assert polyarch.json("verify", "pure")["ok"]
    for platform, machine in zip(PLATFORMS, ("x86_64", "aarch64", "s390x"), strict=True):
        said = polyarch.run("run", "pure", "--platform", platform).stdout.splitlines()
        assert said == [f"hello from {machine} as app", "<h1>hello</h1>"]


@pytest.mark.parametrize(
    ("example", "said"), [("static-site", "<h1>Welcome</h1>"), ("shell-tool", "s390x on Debian GNU/Linux")]
)
def test_the_example_is_grafted(polyarch: Polyarch, example: str, said: str) -> None:
    made = images(polyarch, EXAMPLE.parent / example, "-t", example, *ALL, "--strategy", "graft")
    assert [image["grafted"] for image in made.values()] == [False, True, True]
    assert said in polyarch.run("run", example, "--platform", "linux/s390x").stdout


def applications(folder: Path) -> Path:
    """A context with what Java, Node, PHP and pip leave in an image, all of it without native code."""
    context = dockerfile(folder, "FROM debian:trixie", "COPY app /app", "RUN ln -s /app/index.php /srv/index.php")
    texts = {
        "node_modules/left/package.json": '{"name": "left", "main": "index.js"}',
        "node_modules/left/index.js": "module.exports = 1",
        "index.php": "<?php phpinfo();",
        "lib/pure/__init__.py": "",
        "lib/pure-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    for name, text in texts.items():
        (context / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (context / "app" / name).write_text(text)
    with zipfile.ZipFile(context / "app" / "app.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        jar.writestr("hello/Hello.class", b"\xca\xfe\xba\xbe\0\0\0\x41")
    return context


def test_what_java_node_php_and_pip_leave_is_grafted(polyarch: Polyarch, tmp_path: Path) -> None:
    made = images(polyarch, applications(tmp_path / "pure"), "--platform", "linux/amd64,linux/arm64")
    assert made["linux/arm64"]["grafted"]


def test_native_files_among_them_are_named(polyarch: Polyarch, tmp_path: Path) -> None:
    context = applications(tmp_path / "mixed")
    program = Path("/bin/true").read_bytes()
    for name in ("node_modules/left/left.node", "lib/pure/_fast.so"):
        (context / "app" / name).write_bytes(program)
    with zipfile.ZipFile(context / "app" / "app.jar", "a") as jar:
        jar.writestr("native/x.so", program)
    wish = ("--platform", "linux/amd64,linux/arm64", "--strategy", "linux/arm64=graft")
    said = polyarch.run("build", context, *wish, code=3).stderr
    assert [name for name in ("left.node", "_fast.so", "app.jar") if name not in said] == []


def test_nothing_changed_is_kept_and_a_forced_way_is_honoured(polyarch: Polyarch, pure: Path) -> None:
    arguments = (pure, "--platform", "linux/amd64,linux/arm64")
    first = images(polyarch, *arguments)
    again = images(polyarch, *arguments)
    assert all(image["reused"] for image in again.values())
    assert again["linux/arm64"]["grafted"]
    emulated = images(polyarch, *arguments, "--strategy", "linux/arm64=emulate")
    assert not emulated["linux/arm64"]["grafted"]
    assert emulated["linux/arm64"]["digest"] != first["linux/arm64"]["digest"]
    forced = images(polyarch, *arguments, "--strategy", "graft")
    assert forced["linux/arm64"]["digest"] == first["linux/arm64"]["digest"]


def test_what_is_native_is_named_and_the_platform_is_built(polyarch: Polyarch, tmp_path: Path) -> None:
    done = polyarch.run("build", mixed(tmp_path), "-t", "mixed", "--platform", "linux/arm64", "--json")
    (note,) = [text for text in notes(done.stderr) if text.startswith("no graft")]
    assert "RUN cp /usr/bin/true" in note
    assert "/usr/local/bin/native: an ELF file" in note
    assert not json.loads(done.stdout)["images"][0]["grafted"]
    polyarch.run("run", "mixed", "--platform", "linux/arm64")
    again = images(polyarch, tmp_path / "mixed", "--platform", "linux/arm64")
    assert again["linux/arm64"]["reused"]


def test_what_comes_before_a_native_layer_is_grafted_and_the_rest_is_built_on_it(
    polyarch: Polyarch, tmp_path: Path
) -> None:
    context = dockerfile(
        tmp_path / "c",
        "FROM debian:trixie AS text",
        "RUN echo text > /text",
        "FROM debian:trixie",
        "ENV A=1",
        "WORKDIR /app",
        "COPY --from=text /text .",
        "RUN echo $A > first",
        "ENV A=2",
        "RUN uname -m > /machine && echo $A > second",
        'CMD ["cat", "/app/text", "/app/first", "/app/second", "/machine"]',
    )
    arguments = ("build", context, "-t", "part", "--platform", "linux/amd64,linux/arm64", "--prove-graft", "--json")
    done = polyarch.run(*arguments)
    assert "2 layers of linux/amd64 are taken over, and the rest is built on them" in notes(done.stderr)
    native, arm = (manifest(polyarch, image["digest"]) for image in json.loads(done.stdout)["images"])
    assert native["layers"][1:3] == arm["layers"][1:3]
    assert native["layers"][3] != arm["layers"][3]
    promise = json.loads(arm["annotations"]["io.polyarch.graft"])
    assert promise["layers"] == [layer["digest"] for layer in native["layers"][1:3]]
    said = polyarch.run("run", "part", "--platform", "linux/arm64").stdout.split()
    assert said == ["text", "1", "2", "aarch64"]
    again = polyarch.json("build", context, "--platform", "linux/arm64")["images"][0]
    assert again["reused"]
    assert not again["grafted"]


def test_a_forced_graft_that_cannot_be_proved_lists_the_files(polyarch: Polyarch, tmp_path: Path) -> None:
    arguments = ("build", mixed(tmp_path), "-t", "mixed", *ALL, "--strategy", "linux/arm64=graft")
    done = polyarch.run(*arguments, code=3)
    assert "linux/arm64" in done.stderr
    assert "/usr/local/bin/native: an ELF file" in done.stderr
    assert "mixed:latest" not in polyarch.run("images").stdout


def test_a_changed_package_database_is_no_graft(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN dpkg --purge --force-all tzdata")
    arguments = ("build", context, "--platform", "linux/amd64,linux/arm64", "--strategy", "graft")
    done = polyarch.run(*arguments, code=3)
    assert "/var/lib/dpkg/status: the package database is changed" in done.stderr


def test_a_stage_that_asks_for_the_target_is_no_graft(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c", "FROM debian:trixie AS a", "ARG TARGETARCH", "RUN echo $TARGETARCH > /x",
        "FROM debian:trixie", "COPY --from=a /x /x", "RUN true",
    )  # fmt: skip
    (arm,) = polyarch.json("plan", context, "--platform", "linux/arm64")["platforms"]
    assert {stage["strategy"] for stage in arm["stages"]} == {"emulate"}
    assert "no graft: stage a depends on TARGETARCH" in arm["stages"][0]["reason"]
    done = polyarch.run("build", context, "--platform", "linux/arm64", "--strategy", "linux/arm64=graft", code=2)
    assert "stage a depends on TARGETARCH" in done.stderr


def test_a_graft_is_compared_with_an_emulated_build(polyarch: Polyarch, pure: Path, tmp_path: Path) -> None:
    done = polyarch.run("build", pure, "--platform", "linux/amd64,linux/arm64", "--prove-graft")
    assert "the emulated build is the same in all" in done.stderr
    told = "case $(uname -m) in x86_64) echo one;; *) echo other;; esac > /etc/told"
    sly = dockerfile(tmp_path / "sly", "FROM debian:trixie", f"RUN {told}")
    arguments = ("build", sly, "-t", "sly", "--platform", "linux/amd64,linux/arm64", "--prove-graft")
    done = polyarch.run(*arguments, code=3)
    assert "/etc/told: content differ" in done.stderr
    assert "sly:latest" not in polyarch.run("images").stdout


def test_a_broken_promise_is_found(polyarch: Polyarch, tmp_path: Path) -> None:
    """An image whose promise was copied from another one."""
    made = images(polyarch, mixed(tmp_path), "-t", "mixed", "--platform", "linux/amd64")["linux/amd64"]
    honest = manifest(polyarch, made["digest"])
    promise = {"v": 1, "native": made["digest"], "bases": ["", ""], "layers": [honest["layers"][-1]["digest"]]}
    folder = tmp_path / "liar"
    polyarch.run("build", tmp_path / "mixed", "--platform", "linux/amd64", "-o", f"oci:{folder}:v")
    raw = json.dumps(honest | {"annotations": {"io.polyarch.graft": json.dumps(promise)}}).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(raw)
    top = json.loads((folder / "index.json").read_text())
    entry = {"mediaType": honest["mediaType"], "digest": f"sha256:{digest}", "size": len(raw)}
    (folder / "index.json").write_text(json.dumps(top | {"manifests": [top["manifests"][0] | entry]}))
    done = polyarch.run("verify", f"oci:{folder}:v", code=3)
    assert "graft-broken" in done.stdout
    assert "/usr/local/bin/native" in done.stdout
