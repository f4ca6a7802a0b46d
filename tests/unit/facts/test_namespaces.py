"""Each known reason against user namespaces is found, alone and with the command that mends it."""

from dataclasses import replace

import pytest

from polyarch.facts.namespaces import SetUp, obstacles

GOOD = SetUp(
    user="ann", uid=1000, kernel=(6, 12, 1), newuidmap=True, subuid=True, subgid=True, unprivileged_userns_clone=1,
    max_user_namespaces=9000, apparmor_restricts=0, binfmt_known=True, free_ids=165536,
)  # fmt: skip


@pytest.mark.parametrize(
    ("found", "fix"),
    [
        (replace(GOOD, newuidmap=False), "sudo apt-get install uidmap"),
        (replace(GOOD, subuid=False), "sudo usermod --add-subuids 165536-231071 ann"),
        (replace(GOOD, subgid=False), "sudo usermod --add-subgids 165536-231071 ann"),
        (replace(GOOD, unprivileged_userns_clone=0), "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (replace(GOOD, max_user_namespaces=0), "sudo sysctl -w user.max_user_namespaces=65536"),
        (replace(GOOD, apparmor_restricts=1), "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (replace(GOOD, kernel=(6, 1, 0)), "sudo polyarch emulation install"),
        (replace(GOOD, binfmt_known=False), "sudo modprobe binfmt_misc"),
    ],
)
def test_the_one_thing_that_is_amiss_is_named(found: SetUp, fix: str) -> None:
    assert [problem.fix for problem in obstacles(found)] == [fix]


def test_a_good_set_up_has_no_obstacle() -> None:
    assert list(obstacles(GOOD)) == []
    bare = replace(GOOD, unprivileged_userns_clone=None, max_user_namespaces=None, apparmor_restricts=None)
    assert list(obstacles(bare)) == []


def test_root_needs_no_subordinate_ids() -> None:
    assert list(obstacles(replace(GOOD, uid=0, user="root", newuidmap=False, subuid=False, subgid=False))) == []


def test_what_forbids_all_namespaces_comes_before_what_forbids_their_tables() -> None:
    found = list(obstacles(replace(GOOD, kernel=(5, 15), subuid=False)))
    assert [problem.fix.split()[1] for problem in found] == ["usermod", "polyarch"]
