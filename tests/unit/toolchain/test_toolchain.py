"""The build context `polyarch-toolchain`: its texts agree with the table, and its scripts do what they say."""

import os
import subprocess
from pathlib import Path

import pytest

from polyarch.arch import ARCHES, host_platform, parse_platform
from polyarch.errors import InputError
from polyarch.toolchain import context
from polyarch.toolchain.write import arch_of, cmake_file, environment, meson_file, stage, supported

FAKE = {
    "dpkg": 'case $1 in --print-architecture) echo amd64;; *) echo "dpkg $*" >>"$LOG";; esac',
    "apt-get": 'echo "apt-get $*" >>"$LOG"',
    "apt-cache": 'case $* in *zlib1g*) echo "Multi-Arch: same";; *) echo "Multi-Arch: foreign";; esac',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The context written out, and programs that only write down how they were called."""
    context.write(tmp_path / "root")
    (tmp_path / "fake").mkdir()
    for name, text in FAKE.items():
        (tmp_path / "fake" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "fake" / name).chmod(0o755)
    return tmp_path / "root"


def script(root: Path, name: str, *args: str, target: str = "linux/s390x") -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{root.parent}/fake:{os.environ['PATH']}", "LOG": str(root.parent / "log")}
    env |= {"TARGETPLATFORM": target} if target else {}
    return subprocess.run([str(root / "usr/local/bin" / name), *args], env=env, capture_output=True, text=True)


def program(folder: Path, platform: str) -> str:
    path = folder / platform.replace("/", "-")
    path.write_bytes(ARCHES[parse_platform(platform)].binfmt_magic + bytes(44))
    return str(path)


def test_every_value_can_be_read_by_a_shell_without_quotes() -> None:
    for arch in supported():
        for name, value in environment(arch).items():
            assert name.isidentifier()
            assert not set(value) & set(" \t\"'`$\\;&|<>()*?#~"), (name, value)


def test_each_tool_is_told_the_target_in_its_own_words() -> None:
    found = environment(arch_of(parse_platform("linux/arm/v7")))
    assert found["CC"] == "arm-linux-gnueabihf-gcc"
    assert (found["GOOS"], found["GOARCH"], found["GOARM"]) == ("linux", "arm", "7")
    assert found["CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER"] == found["CC"]
    power = arch_of(parse_platform("linux/ppc64le"))
    assert environment(power)["DEB_HOST_ARCH"] == "ppc64el"
    assert "CMAKE_SYSTEM_PROCESSOR ppc64le" in cmake_file(power)
    assert "cpu_family = 'ppc64'" in meson_file(power)
    assert "endian = 'big'" in meson_file(arch_of(parse_platform("linux/s390x")))
    assert environment(arch_of(parse_platform("386")))["CC"] == "i686-linux-gnu-gcc"


def test_a_platform_that_debian_does_not_compile_for_is_refused() -> None:
    with pytest.raises(InputError, match="linux/arm/v6"):
        arch_of(parse_platform("linux/arm/v6"))


def test_the_digest_follows_the_content() -> None:
    content = context.files()
    assert context.digest(content) == context.digest(context.files())
    assert context.digest(content[1:]) != context.digest(content)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    context.write(tmp_path)
    context.write(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="mine"):
        context.write(tmp_path)


def test_the_stage_shown_is_one_that_uses_the_context() -> None:
    assert f"COPY --from={context.NAME} / /" in stage()


def test_a_command_runs_in_the_targets_environment(root: Path) -> None:
    told = script(root, "cross-env", "sh", "-c", "echo $CC $GOARCH $CGO_ENABLED $CMAKE_TOOLCHAIN_FILE")
    share = "/usr/local/share/polyarch/linux-s390x/toolchain.cmake"
    assert told.stdout.split() == ["s390x-linux-gnu-gcc", "s390x", "0", share]
    printed = script(root, "cross-env").stdout.splitlines()
    assert "export CC=s390x-linux-gnu-gcc" in printed
    assert "export CGO_ENABLED=0" in printed


def test_the_build_machines_own_platform_is_no_cross_compilation(root: Path) -> None:
    told = script(root, "cross-env", "sh", "-c", "echo $CC ${CMAKE_TOOLCHAIN_FILE-none}", target="linux/amd64")
    assert told.stdout.split() == ["x86_64-linux-gnu-gcc", "none"]
    assert "CMAKE_TOOLCHAIN_FILE" not in script(root, "cross-env", target="linux/amd64").stdout


@pytest.mark.parametrize(
    ("target", "said"), [("", "write ARG TARGETPLATFORM into this stage"), ("linux/vax", "no toolchain for linux/vax")]
)
def test_a_script_says_what_it_lacks(root: Path, target: str, said: str) -> None:
    done = script(root, "cross-env", "true", target=target)
    assert done.returncode == 2
    assert said in done.stderr


def test_libraries_are_the_targets_and_tools_this_machines(root: Path) -> None:
    wanted = ("gcc", "g++-14", "libjansson-dev", "zlib1g", "make", "cmake:native", "libc6-dev=2.41", "libfoo:arm64")
    assert script(root, "cross-apt", "install", *wanted, target="linux/ppc64le").returncode == 0
    added, updated, installed = (root.parent / "log").read_text().splitlines()[-3:]
    assert added == "dpkg --add-architecture ppc64el"
    assert updated == "apt-get update -q"
    assert installed.split()[5:] == [
        "gcc-powerpc64le-linux-gnu", "g++-14-powerpc64le-linux-gnu", "libjansson-dev:ppc64el", "zlib1g:ppc64el",
        "make", "cmake:native", "libc6-dev:ppc64el=2.41", "libfoo:arm64",
    ]  # fmt: skip


def test_on_the_build_machines_platform_compilers_have_their_plain_names(root: Path) -> None:
    script(root, "cross-apt", "install", "gcc", "libjansson-dev", target="linux/amd64")
    assert (root.parent / "log").read_text().splitlines()[-1].split()[5:] == ["gcc", "libjansson-dev:amd64"]


def test_a_program_for_another_machine_is_named_with_that_machine(root: Path, tmp_path: Path) -> None:
    right, wrong = program(tmp_path, "linux/s390x"), program(tmp_path, str(host_platform()))
    assert script(root, "cross-verify", right).returncode == 0
    (tmp_path / "text").write_text("#!/bin/sh\n")
    done = script(root, "cross-verify", right, wrong, str(tmp_path / "text"), str(tmp_path / "none"))
    assert done.returncode == 1
    assert f"{wrong}: is for {host_platform()}, not for linux/s390x" in done.stderr
    assert "text: is no ELF file" in done.stderr
    assert "none: cannot be read" in done.stderr
    assert right not in done.stderr
