"""Base images out of packages: reproducible, cached, and what they say."""

import json
import subprocess

import pytest
from bases import SUITES, apt_options
from harness import Polyarch, events

from conftest import FIVE

pytestmark = pytest.mark.slow
EPOCH = {"SOURCE_DATE_EPOCH": "1760000000"}


def make(polyarch: Polyarch, *more: str, platform: str = "linux/amd64") -> tuple[str, str]:
    """The digest of a base, and what was said; under whichever name the archive has it whole."""
    for suite in SUITES:
        arguments = polyarch.argv("base", suite, "-t", "made", "--platform", platform, "--json", *apt_options(), *more)
        done = subprocess.run(arguments, env=polyarch.env | EPOCH, capture_output=True, text=True)
        if done.returncode == 0:
            return json.loads(done.stdout)["digest"], done.stderr
    pytest.fail(done.stderr)


def test_a_base_is_the_same_bytes_when_it_is_made_again(empty: Polyarch) -> None:
    first, _ = make(empty)
    second, said = make(empty, "--no-cache")
    assert any(event["text"] == "compressing" for event in events(said)), "it was made anew"
    assert second == first
    third, said = make(empty)
    assert [event["text"] for event in events(said)] == ["made before: kept"]
    assert third == first


def test_twins_bootstrap_a_foreign_base_to_the_same_bytes(empty: Polyarch) -> None:
    accelerated, said = make(empty, platform="linux/arm64")
    assert any("emulated" in event["text"] and "programs" in event["text"] for event in events(said))
    plain, said = make(empty, "--no-cache", "--no-accelerate", platform="linux/arm64")
    assert not any("programs" in event["text"] for event in events(said))
    assert plain == accelerated


def test_a_base_is_what_it_says(kept: Polyarch) -> None:
    report = kept.json("verify", "debian:trixie")
    assert report["ok"]
    assert {entry["platform"] for entry in report["entries"]} == set(FIVE)
    for platform in FIVE:
        script = ". /etc/os-release; echo $ID:$VERSION_CODENAME"
        said = kept.run("run", "debian:trixie", "--platform", platform, "--", "sh", "-c", script)
        assert said.stdout.strip() == "debian:trixie"


def test_a_suite_that_does_not_exist_is_told_with_the_archives_own_words(empty: Polyarch) -> None:
    done = empty.run("base", "debian:nosuch", "--platform", "linux/amd64", code=1)
    assert "debian:nosuch cannot be bootstrapped" in done.stderr
    assert "nosuch" in done.stderr
