"""What follows from facts: the way a platform's programs are executed, and the problems that matter."""

import json
from dataclasses import replace
from pathlib import Path

from polyarch.arch import ARCHES, parse_platform
from polyarch.emulation import binfmt
from polyarch.emulation.emulators import Emulator, Fault
from polyarch.facts.model import Facts, Problem, Tool, Tried, UserNamespace

AMD64, ARM64, ARMV7, I386 = map(parse_platform, ("amd64", "arm64", "linux/arm/v7", "386"))
QEMU = Path("/usr/bin/qemu-aarch64-static")
OBSTACLE = Problem("no binfmt_misc in user namespaces", "Linux 6.1", "sudo polyarch emulation install")
FORBIDDEN = Problem("no user namespace for polyarch", "newuidmap is not installed", "sudo apt-get install uidmap")

GOOD = Facts(
    platform=AMD64,
    kernel="6.18",
    uid=1000,
    distribution="Debian",
    cgroups="v2",
    tools=(Tool("buildah", Path("/usr/bin/buildah"), "1.28"), Tool("skopeo", Path("/usr/bin/skopeo")), Tool("docker")),
    isolations=(Tried("chroot", False, "no"), Tried("oci+crun", True)),
    storage_drivers=(Tried("overlay", True),),
    binfmt_mounted=False,
    binfmt_on=False,
    handlers=(),
    namespace=UserNamespace(True, True),
    native=(AMD64, I386),
    emulators=tuple(Emulator(platform, QEMU, (7, 2, 22), ()) for platform in ARCHES),
    compilers=(),
)
NO_OWN_TABLE = replace(GOOD, namespace=UserNamespace(True, False, (OBSTACLE,)))
HANDLER = binfmt.handler(ARCHES[ARM64], QEMU, name="qemu-aarch64")
WITH_HOST = replace(NO_OWN_TABLE, binfmt_mounted=True, binfmt_on=True, handlers=(HANDLER,))


def test_what_runs_natively_needs_nothing() -> None:
    assert GOOD.execution(I386).way == "native"


def test_a_namespace_of_its_own_comes_before_the_hosts_handler() -> None:
    both = replace(WITH_HOST, namespace=UserNamespace(True, True))
    assert both.execution(ARM64).way == "namespace"
    assert both.execution(ARM64).emulator == both.emulator(ARM64)


def test_the_hosts_handler_serves_where_namespaces_have_no_table() -> None:
    execution = WITH_HOST.execution(ARM64)
    assert (execution.way, execution.handler) == ("host", "qemu-aarch64")


def test_the_hosts_handler_needs_no_emulator_in_path() -> None:
    assert replace(WITH_HOST, emulators=()).execution(ARM64).way == "host"


def test_a_table_that_is_switched_off_serves_nobody() -> None:
    assert replace(WITH_HOST, binfmt_on=False).execution(ARM64).way == "none"


def test_a_handler_without_f_does_not_count_and_is_named() -> None:
    plain = replace(WITH_HOST, handlers=(replace(HANDLER, flags="P"),), namespace=UserNamespace(True, False))
    execution = plain.execution(ARM64)
    assert execution.way == "none"
    assert "flag F" in execution.why
    assert execution.fix == "sudo polyarch emulation install linux/arm64"


def test_without_an_emulator_its_package_is_the_fix() -> None:
    execution = replace(GOOD, emulators=()).execution(ARMV7)
    assert (execution.way, execution.fix) == ("none", "apt-get install qemu-user-static")


def test_without_own_tables_the_platform_is_to_be_installed_on_the_host() -> None:
    assert NO_OWN_TABLE.execution(ARM64).fix == "sudo polyarch emulation install linux/arm64"


def test_where_namespaces_are_forbidden_that_is_to_be_mended() -> None:
    facts = replace(GOOD, namespace=UserNamespace(False, False, (FORBIDDEN,)))
    assert facts.execution(ARM64).fix == FORBIDDEN.fix
    assert facts.problems == (FORBIDDEN,)


def test_a_good_machine_has_no_problem() -> None:
    assert GOOD.problems == ()
    assert GOOD.isolation == "oci+crun"
    assert GOOD.storage_driver == "overlay"


def test_what_prevents_building_comes_first() -> None:
    facts = replace(NO_OWN_TABLE, tools=())
    assert [problem.fix for problem in facts.problems] == [
        "apt-get install buildah", "apt-get install skopeo", OBSTACLE.fix,
    ]  # fmt: skip


def test_missing_own_tables_do_not_matter_when_the_host_serves_everything() -> None:
    every = tuple(binfmt.handler(arch, QEMU) for arch in ARCHES.values())
    assert replace(WITH_HOST, handlers=every).problems == ()


def test_all_platforms_without_emulator_are_one_problem() -> None:
    (problem,) = replace(GOOD, emulators=()).problems
    assert problem.fix == "apt-get install qemu-user-static"
    assert "linux/arm64, linux/s390x" in problem.what


def test_only_faults_that_can_hit_every_program_are_problems() -> None:
    general, particular = Fault("crashes", "issue", "upgrade"), Fault("node hangs", "issue", "pin", general=False)
    facts = replace(GOOD, emulators=(Emulator(ARM64, QEMU, (7, 2, 0), (general, particular)), *GOOD.emulators))
    assert [problem.fix for problem in facts.problems] == ["upgrade"]


def test_no_working_isolation_is_a_problem_that_says_what_was_tried() -> None:
    (problem,) = replace(GOOD, isolations=(Tried("chroot", False, "not permitted"),)).problems
    assert problem.why == "chroot: not permitted"


def test_json_has_everything_and_what_follows() -> None:
    told = json.loads(json.dumps(WITH_HOST.as_dict()))
    assert told["platform"] == "linux/amd64"
    assert told["handlers"][0]["magic"].startswith("7f454c46")
    by_platform = {one["platform"]: one["way"] for one in told["executions"]}
    assert by_platform["linux/arm64"] == "host"
    assert told["problems"][0]["fix"] == OBSTACLE.fix
