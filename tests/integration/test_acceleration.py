"""Twins of tools in emulated builds: the trees are the same, and what no twin may do is emulated."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import Polyarch, dockerfile, events

from conftest import EXAMPLE
from polyarch.build.equal import compare
from polyarch.oci.layout import Layout

pytestmark = pytest.mark.slow

ARM64, S390X = "linux/arm64", "linux/s390x"
ONE_BY_ONE = ("--strategy", "emulate", "--no-cache")

# Each line writes what it saw; a plain build of it must write the same.
PITFALLS = r"""
FROM debian:trixie
RUN mkdir /seen
RUN cd /seen && cp /usr/bin/sed /usr/bin/changed && printf x >>/usr/bin/changed && echo a | changed s/a/b/ >changed
RUN cd /seen && head -c 131071 /dev/zero | tr '\0' x >long && cat long | xargs -s 140000 echo >echoed && \
    expr "$(cat long)" : '.*' >length
RUN cd /seen && bash -c 'exec -a other /usr/bin/sed --nonsense' 2>argv0 || true
RUN cd /seen && printf '#!/usr/bin/env -S sh -e\necho "$0 $1"; cat /nowhere' >/s && chmod 755 /s && \
    { /s one 2>&1; echo $?; } >script
RUN cd /seen && umask 027 && touch umask && umask >mask
RUN cd /seen && for signal in TERM KILL USR1; do sh -c "kill -$signal \$\$"; echo $?; done >signals 2>&1; \
    sh -c 'exit 41'; echo $? >>signals; timeout -s INT 0.2 sleep 5; echo $? >>signals
RUN cd /seen && echo 'if [ "$1" = 0 ]; then echo bottom; else sh /deep $(($1 - 1)); fi' >/deep && sh /deep 40 >deep
RUN cd /seen && seq 200 | xargs -P 20 -I{} sh -c 'echo {} | sed s/$/x/' | sort -n >parallel
RUN cd /seen && cp /usr/bin/sleep /gone && { /gone 0.5 & } && rm /gone && wait && echo "$?" >deleted
RUN cd /seen && ln -s /usr/bin/cat /linked && echo linked | /linked >link && (cat /proc/self/comm; uname -m) >names
RUN cd /seen && dpkg --print-architecture >arch && apt-config dump APT::Architecture >>arch && \
    apt-get --version | head -1 >>arch
RUN cd /seen && LANG=C.UTF-8 sort -u <<X >locale
ä
a
ö
X
RUN cd /seen && setpriv --reuid 65534 --clear-groups sh -c 'id -u; cat /etc/passwd | wc -l' >user
RUN cp --preserve=all /usr/bin/cat /usr/bin/setuid && chmod 4755 /usr/bin/setuid && setuid /etc/hostname >/dev/null
RUN mkdir -p /inner/usr && cp -a /usr/bin /usr/lib /inner/usr/ && ln -s usr/lib usr/bin /inner/ && \
    chroot /inner sh -c 'uname -m | sed s/$/!/' >/seen/inner && rm -rf /inner
RUN LD_PRELOAD=libc.so.6 sed --version | head -1 >/seen/preload
"""


def counted(stderr: str, platform: str) -> str:
    """What the end of a platform's build says of its programs."""
    done = [e for e in events(stderr) if e["kind"] == "done" and e["subject"] == platform]
    return next((str(e["text"]) for e in done if "built in" in e["text"]), "")


@pytest.mark.parametrize("platform", [ARM64, S390X])
def test_pitfalls_end_as_in_a_plain_build(polyarch: Polyarch, tmp_path: Path, platform: str) -> None:
    app = dockerfile(tmp_path / "app", *PITFALLS.strip().split("\n"))
    done = polyarch.run("build", app, "--platform", platform, *ONE_BY_ONE, "--prove-acceleration", "--json")
    assert re.search(r"emulated \d+% of \d+ programs", counted(done.stderr, platform))
    assert any("as a plain build makes them" in event["text"] for event in events(done.stderr))


def test_a_tool_that_is_upgraded_in_mid_build_is_still_right(polyarch: Polyarch, tmp_path: Path) -> None:
    app = dockerfile(
        tmp_path / "app",
        "FROM debian:trixie",
        "RUN apt-get update && apt-get install -y --reinstall tar sed && rm -rf /var/lib/apt/lists/*",
        "RUN apt-get update && apt-get install -y --no-install-recommends patch gawk && rm -rf /var/lib/apt/lists/*",
        "RUN gawk 'BEGIN { print 1 / 3 }' > /third",
    )
    done = polyarch.run("build", app, "--platform", ARM64, *ONE_BY_ONE, "--prove-acceleration", "--json")
    assert any("as a plain build makes them" in event["text"] for event in events(done.stderr))


def test_the_example_is_the_same_as_a_plain_build(polyarch: Polyarch) -> None:
    done = polyarch.run("build", EXAMPLE, "--platform", ARM64, *ONE_BY_ONE, "--prove-acceleration", "--json")
    assert any("as a plain build makes them" in event["text"] for event in events(done.stderr))


def test_accelerated_builds_run_at_the_same_time(polyarch: Polyarch, tmp_path: Path) -> None:
    running = {}
    for platform in (ARM64, S390X, f"{ARM64} "):  # the last one shares platform, table and storage with the first
        name = platform.strip().replace("/", "-") + "x" * platform.count(" ")
        app = dockerfile(tmp_path / name, "FROM debian:trixie", f"RUN seq 100 | xargs -n 1 echo {name} >/said")
        options = ("--platform", platform.strip(), *ONE_BY_ONE, "--json")
        running[platform] = polyarch.start("build", app, *options, stderr=subprocess.PIPE)
    for platform, process in running.items():
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
        assert "of 103 programs (most: seq 1)" in counted(stderr, platform.strip())


def test_no_trace_is_left_in_the_image(polyarch: Polyarch, tmp_path: Path) -> None:
    app = dockerfile(tmp_path / "app", "FROM debian:trixie", "RUN true")
    options = ["--platform", ARM64, *ONE_BY_ONE]
    accelerated = json.loads(polyarch.run("build", app, *options, "--json").stdout)["images"][0]["digest"]
    plain = json.loads(polyarch.run("build", app, *options, "--no-accelerate", "--json").stdout)["images"][0]["digest"]
    differing, count = compare(Layout(polyarch.home / "images"), accelerated, plain)
    assert differing == []
    assert count < 10


def test_without_a_compiler_builds_go_on_plainly_and_say_so(polyarch: Polyarch, tmp_path: Path) -> None:
    app = dockerfile(tmp_path / "app", "FROM debian:trixie", "RUN uname -m")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            if not re.fullmatch(r"(.*-)?(cc|gcc|clang|c99|c89)(-\d+)?", program.name):
                (bin_ / program.name).unlink(missing_ok=True)
                (bin_ / program.name).symlink_to(program)
    env = {"PATH": str(bin_), "POLYARCH_CACHE": str(tmp_path / "cache")}
    done = polyarch.run("build", app, "--platform", ARM64, *ONE_BY_ONE, "--json", env=env)
    shutil.rmtree(bin_)
    if Path("/usr/sbin/cc").exists():
        pytest.skip("a compiler in sbin is always found")
    assert any("apt-get install gcc" in event["text"] for event in events(done.stderr))
    assert "emulated" not in counted(done.stderr, ARM64)


def test_twins_and_originals_answer_the_corpus_alike(polyarch: Polyarch, tmp_path: Path) -> None:
    own = Polyarch(polyarch.home, tmp_path / "cache")  # proofs lie in the cache
    found = own.json("accelerate", "prove", "debian:trixie", "--platform", ARM64)
    assert [row for row in found if row["differing"]] == []
    assert {"/usr/bin/dpkg", "/usr/bin/perl", "/usr/bin/sort"} <= {row["path"] for row in found}
    said = own.json("accelerate", "status", "debian:trixie", "--platform", ARM64)[ARM64]
    assert all(row["proved"] for row in said["native"])
    assert (
        "no twin with commands"
        in own.run("accelerate", "prove", "debian:trixie", "nosuch", "--platform", ARM64, code=2).stderr
    )


def test_a_base_whose_packages_cannot_be_read_is_emulated_and_says_so(polyarch: Polyarch, tmp_path: Path) -> None:
    base = dockerfile(tmp_path / "base", "FROM debian:trixie", "RUN rm -r /var/lib/dpkg")
    polyarch.run("build", base, "-t", "other", "--platform", f"linux/amd64,{ARM64}", "--strategy", f"{ARM64}=emulate")
    app = dockerfile(tmp_path / "app", "FROM other", "RUN uname -m")
    done = polyarch.run("build", app, "--platform", ARM64, *ONE_BY_ONE, "--json")
    assert any("no tool of other has a twin (not of package" in event["text"] for event in events(done.stderr))


def test_status_names_what_runs_natively_and_why_not(polyarch: Polyarch) -> None:
    said = polyarch.json("accelerate", "status", "debian:trixie", "--platform", ARM64)[ARM64]
    assert {"/usr/bin/dash", "/usr/bin/apt-get"} <= {row["path"] for row in said["native"]}
    assert not any(row["path"] == "/usr/bin/uname" for row in said["native"])
