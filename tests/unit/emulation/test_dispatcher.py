"""The dispatcher, called as by the kernel under the flag P (PATH, ARGV0, ARGS); files of this machine play foreign."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from polyarch.arch import host_platform, parse_platform
from polyarch.emulation.dispatcher import counts, program
from polyarch.emulation.emulators import Emulator
from polyarch.emulation.twins import table
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.elf import identify
from polyarch.emulation.twins.pair import Twin
from polyarch.errors import HostError

SHOW = '#!/bin/sh\nshift 4; echo "emulated $0" "$@" >&2; echo "$#"\n'
PYTHON = Path(sys.executable).resolve()
ECHO = Path(shutil.which("printenv") or "/usr/bin/printenv").resolve()  # what plays the foreign program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table with one twin: the foreign `printenv` is answered by Python of this machine."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    argv = program.command("cc", host_platform().architecture, tmp_path / "dispatcher", tmp_path / "table")
    subprocess.run(argv, check=True)
    return tmp_path


def ready(folder: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool, native: Path = PYTHON) -> Path:
    """Make the table for one tool, answered by the program `native`; returns the foreign file."""
    monkeypatch.setenv("POLYARCH_CACHE", str(folder / "cache"))
    monkeypatch.setattr(table, "TABLE", folder / "table")
    foreign = folder / "foreign"
    shutil.copyfile(ECHO, foreign)
    foreign.chmod(0o755)
    identity, twin = identify(foreign), identify(native)
    assert identity is not None
    assert twin is not None
    libraries = subprocess.run(["ldd", str(native)], capture_output=True, text=True).stdout
    found = tuple((line.split()[0], Path(line.split()[2])) for line in libraries.splitlines() if "=> /" in line)
    qemu = folder / "qemu"
    qemu.write_text(SHOW)
    made = table.make(
        [Twin(tool, identity.build_id, identity.size, native, Path(twin.loader), found)],
        [Emulator(host_platform(), qemu, (), ())],
    )
    shutil.copytree(made, folder / "table", copy_function=os.link)
    (folder / "table" / "count" / "log").touch()
    return foreign


def call(
    folder: Path, foreign: Path, args: Sequence[str], *, argv0: str = "name", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "dispatcher"), str(foreign), argv0, *args]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    return subprocess.run(command, env=clean | dict(env or {}), capture_output=True, text=True)


def why(folder: Path) -> list[str]:
    """The reasons in the log, in order."""
    data = (folder / "table" / "count" / "log").read_bytes()
    return [data[start : start + 1].decode() for start in range(0, len(data), counts.RECORD.size)]


ANSWER = ["-c", "import sys; print(sys.orig_argv[0], sys.argv[1:]); sys.exit(7)", "x"]


def test_a_known_file_is_answered_by_its_twin_with_argv0_arguments_and_exit_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    done = call(folder, foreign, ANSWER, argv0="-odd name")
    assert (done.returncode, done.stdout) == (7, "-odd name ['x']\n")
    assert why(folder) == ["t"]
    ((platform, counted),) = counts.read(folder / "table" / "count" / "log").items()
    assert platform == host_platform()
    assert counted.native == (("foreign", 1),)
    assert counted.share == 0


def test_signals_umask_and_long_arguments_reach_the_twin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    assert call(folder, foreign, ["-c", "import os; os.kill(os.getpid(), 9)"]).returncode == -9
    before = os.umask(0o27)
    try:
        assert call(folder, foreign, ["-c", "import os; print(oct(os.umask(0)))"]).stdout == "0o27\n"
    finally:
        os.umask(before)
    long = "x" * (128 * 1024 - 1)
    assert call(folder, foreign, ["-c", "import sys; print(len(sys.argv[1]))", long]).stdout == f"{len(long)}\n"
    many = ["y"] * 20_000
    assert call(folder, foreign, ["-c", "import sys; print(len(sys.argv))", *many]).stdout == "20001\n"


def test_arguments_are_added_exchanged_and_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "import sys; print(sys.argv[1:])"
    tool = Tool(
        "usr/bin/printenv",
        "coreutils",
        front=("-c", show),
        back=("last",),
        exchange=(("/usr/old.so", "lib/new.so"),),
        refuse=("--version", "-fplugin*"),
        refuse_env=("C_INCLUDE_PATH",),
    )
    foreign = ready(folder, monkeypatch, tool)
    said = call(folder, foreign, ["a", "/usr/old.so"]).stdout
    assert said.startswith("['a', '")
    assert said.endswith("/new.so', 'last']\n")
    assert "emulated" in call(folder, foreign, ["--version"]).stderr
    assert "emulated" in call(folder, foreign, ["-fplugin=x.so"]).stderr
    assert "emulated" in call(folder, foreign, ["a"], env={"C_INCLUDE_PATH": "/x"}).stderr
    assert "emulated" not in call(folder, foreign, ["--versions", "-fplugi"]).stderr
    assert why(folder) == ["t", "a", "a", "a", "t"]


def test_only_known_scripts_of_a_root_without_more_modules_are_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, modules = folder / "script", folder / "modules"
    script.write_text("import sys; print(sys.argv)\n")
    tool = Tool("usr/bin/printenv", "coreutils", scripts=("/other", str(script)), refuse_paths=(str(modules),))
    foreign = ready(folder, monkeypatch, tool)
    assert call(folder, foreign, ["-B", str(script), "-x"]).stdout == f"['{script}', '-x']\n"
    for args in (["-c", "1", str(script)], [f"{script}2"], ["-B"], []):
        assert "emulated" in call(folder, foreign, args).stderr
    modules.mkdir()
    assert "emulated" in call(folder, foreign, [str(script)]).stderr
    assert why(folder) == ["t", "a", "a", "a", "a", "a"]


def test_a_thousand_programs_at_once_are_all_answered_and_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"), Path(shutil.which("true") or ""))
    command = [folder / "dispatcher", foreign, "true"]
    running = [subprocess.Popen(command, env={}) for _ in range(1000)]
    assert {process.wait() for process in running} == {0}
    assert why(folder) == ["t"] * 1000


@pytest.mark.parametrize(
    ("variable", "reason"),
    [("LD_PRELOAD", "l"), ("LD_AUDIT", "l"), ("LD_DEBUG", "l"), ("GCONV_PATH", "l"), ("LD_LIBRARY_PATH", "t")],
)
def test_what_tells_the_loader_something_is_emulated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, reason: str
) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    # The dispatcher itself is static, so that these do nothing to it; the script that plays qemu only warns.
    call(folder, foreign, ANSWER, env={variable: "/nowhere.so"})
    assert why(folder)[0] == reason


@pytest.mark.parametrize(
    ("value", "reason"), [("C", "t"), ("", "t"), ("C.UTF-8", "t"), ("de_DE.utf8", "t"), ("de_DE", "c"), ("ja.EUC", "c")]
)
def test_locales_of_other_character_sets_are_emulated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    call(folder, foreign, ANSWER, env={"LC_ALL": value})
    assert why(folder) == [reason]


def test_a_file_that_was_changed_or_is_privileged_is_emulated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    foreign.chmod(0o4755)
    call(folder, foreign, ANSWER)
    with foreign.open("ab") as file:
        file.write(b"more")
    foreign.chmod(0o755)
    call(folder, foreign, ANSWER)
    assert why(folder) == ["p", "s"]


def test_an_unknown_file_is_emulated_under_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    other = Path(shutil.which("sha256sum") or "").resolve()
    done = call(folder, other, ["a b", "c"])
    assert f"{other} a b c" not in done.stdout
    assert done.stderr.endswith(" a b c\n")
    assert done.stdout == "2\n"
    assert why(folder) == ["u"]


def test_without_a_table_the_dispatcher_says_what_is_amiss(folder: Path) -> None:
    done = call(folder, ECHO, [])
    assert done.returncode == 126
    assert "emulator" in done.stderr


def test_without_a_table_the_emulator_that_it_brings_along_is_executed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYARCH_CACHE", str(folder / "cache"))
    argv = program.with_emulator(folder / "dispatcher", Path(shutil.which("echo") or "").resolve())
    done = subprocess.run([argv, ECHO, "name", "a b"], capture_output=True, text=True)
    assert done.stdout == f"-0 name -- {ECHO} a b\n"


@pytest.mark.parametrize("cut", [0, 10, 63, 64, 100, 600])
def test_files_that_are_cut_off_do_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    ready(folder, monkeypatch, Tool("usr/bin/printenv", "coreutils"))
    broken = folder / "broken"
    broken.write_bytes(ECHO.read_bytes()[:cut])
    assert call(folder, broken, []).returncode in (0, 126)


def test_a_missing_compiler_is_told_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(program, "_COMPILERS", ("no-such-compiler",))
    with pytest.raises(HostError) as raised:
        program.find()
    assert "apt-get install" in raised.value.hint


def test_records_that_are_none_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    good = counts.RECORD.pack(b"u", 2, 1, 183, b"perl")
    log.write_bytes(good + b"?" * counts.RECORD.size + good + b"t")
    found = counts.read(log)
    assert found[parse_platform("linux/arm64")].emulated == (("perl", "no twin", 2),)
    assert str(found[parse_platform("linux/arm64")]) == "emulated 100% of 2 programs (most: perl 2)"
