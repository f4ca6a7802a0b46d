"""Each stage is built by itself: what several platforms share only once, and what an earlier build left not again."""

from pathlib import Path
from typing import Any

import pytest
from harness import Polyarch, dockerfile, events

from conftest import EXAMPLE, PLATFORMS

pytestmark = pytest.mark.slow

ALL = ("--platform", ",".join(PLATFORMS))
# What a step prints, not what stands in the Dockerfile: `ran-once` is in no line of a log unless the RUN was executed.
SHARED = (
    "FROM --platform=$BUILDPLATFORM debian:trixie AS tools",
    "ARG TARGETOS",
    "COPY input /input",
    "RUN echo ran-$(echo once) && uname -m > /where",
)
LAST = ("FROM debian:trixie", "COPY --from=tools /where /input /", "ARG TARGETARCH", "RUN echo $TARGETARCH > /arch")


def build(polyarch: Polyarch, context: Path, *args: str) -> tuple[list[dict[str, Any]], str]:
    """The events of a build, and all logs of its newest folder."""
    done = polyarch.run("build", context, "-t", "stages", "--json", *args)
    newest = max((polyarch.home / "logs").iterdir())
    return events(done.stderr), "".join(path.read_text() for path in sorted(newest.iterdir()))


def test_a_pinned_stage_runs_once_for_three_platforms_and_never_again(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", *SHARED, *LAST)
    (context / "input").write_text("one")
    told, logs = build(polyarch, context, *ALL)
    assert logs.count("ran-once") == 1
    assert logs.count("tools: shared, ") == 2
    steps = [(event["subject"], event["text"]) for event in told if "tools: RUN" in event.get("text", "")]
    assert len(steps) == 1
    for platform in PLATFORMS:
        said = polyarch.run("run", "stages", "--platform", platform, "--", "cat", "/where", "/arch", "/input")
        assert said.stdout.split() == ["x86_64", platform.partition("/")[2], "one"]
    # The last stage changes: the first is not even looked into.
    dockerfile(context, *SHARED, *LAST, "ENV CHANGED=1")
    told, logs = build(polyarch, context, *ALL)
    assert "ran-once" not in logs
    assert "STEP 2/5: COPY" in logs
    assert sum(event.get("text") == "tools: nothing changed: kept" for event in told) == 3
    # What it copies changes.
    (context / "input").write_text("two")
    _, logs = build(polyarch, context, *ALL)
    assert logs.count("ran-once") == 1
    # Everything anew, and still once.
    _, logs = build(polyarch, context, *ALL, "--no-cache")
    assert logs.count("ran-once") == 1


def test_a_stage_that_takes_in_the_target_is_built_natively_for_each(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c",
        "FROM --platform=$BUILDPLATFORM debian:trixie AS cross",
        "ARG TARGETARCH",
        "RUN echo ran-$(echo cross) && echo $(uname -m)-$TARGETARCH > /made",
        "FROM scratch",
        "COPY --from=cross /made /made",
    )
    _, logs = build(polyarch, context, *ALL)
    assert logs.count("ran-cross") == 3
    assert polyarch.json("verify", "stages")["ok"]


def test_files_alone_on_scratch_are_labelled_for_each_platform(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM scratch", "COPY Dockerfile /")
    build(polyarch, context, *ALL)
    assert polyarch.json("verify", "stages")["ok"]


def test_what_a_stage_puts_off_runs_where_it_is_built_upon(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c",
        "FROM debian:trixie AS parent",
        "ONBUILD RUN echo put off > /off",
        "RUN echo own > /own",
        "FROM parent AS child",
        "FROM debian:trixie",
        "COPY --from=parent / /parent",
        "COPY --from=child /off /own /child/",
    )
    build(polyarch, context, "--platform", "linux/amd64")
    said = polyarch.run("run", "stages", "--", "sh", "-c", "cat /child/off /child/own; ls /parent/off || echo none")
    assert said.stdout.splitlines() == ["put off", "own", "none"]


def test_the_plan_shows_times_reasons_and_pictures_and_refuses_a_pinned_image(
    polyarch: Polyarch, tmp_path: Path
) -> None:
    context = dockerfile(tmp_path / "c", *SHARED, "FROM debian:trixie", "COPY --from=tools /where /where")
    (context / "input").write_text("one")
    build(polyarch, context, "--platform", "linux/amd64")
    stages = {
        (e["platform"], s["stage"]): s for e in polyarch.json("plan", context, *ALL)["platforms"] for s in e["stages"]
    }
    assert stages["linux/amd64", "tools"]["seconds"] > 0
    assert {stages[platform, "tools"]["strategy"] for platform in PLATFORMS} == {"native", "cross"}
    assert stages["linux/s390x", "tools"]["seconds"] == stages["linux/amd64", "tools"]["seconds"]
    table = polyarch.run("plan", EXAMPLE, *ALL).stdout
    assert table.splitlines()[0].split() == ["PLATFORM", "STAGE", "BASE", "STRATEGY", "TIME", "NEEDS", "WHY"]
    why = polyarch.run("plan", EXAMPLE, *ALL, "--why", "linux/s390x:build").stdout
    assert "not native  this machine's processor does not execute linux/s390x" in why
    assert "not graft   stage stage-1 installs packages in line 14" in why
    assert polyarch.run("plan", EXAMPLE, *ALL, "-o", "mermaid").stdout.startswith("flowchart LR\n")
    assert "linux_s390x_s0 -> linux_s390x_s1;" in polyarch.run("plan", EXAMPLE, *ALL, "-o", "dot").stdout
    assert "linux/arm64:build" in polyarch.run("plan", EXAMPLE, *ALL, "--why", "linux/arm64:nope", code=2).stderr
    dockerfile(context, "FROM --platform=linux/amd64 debian:trixie", "RUN true")
    refused = polyarch.run("build", context, "--platform", "linux/arm64", code=2).stderr
    assert "Dockerfile:1: stage stage-0 is the image for linux/arm64, but it is pinned to linux/amd64" in refused
    assert "FROM … AS nope gives one" in polyarch.run("plan", context, "--target", "nope", code=2).stderr


def test_a_failure_in_a_shared_stage_is_told_once(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(
        tmp_path / "c", "FROM --platform=$BUILDPLATFORM debian:trixie AS tools", "RUN exit 7", *LAST[:2]
    )
    done = polyarch.run("build", context, *ALL, "--keep-going", code=1)
    assert done.stderr.count("error:") == 1
    assert f"{context}/Dockerfile:2: RUN exit 7" in done.stderr
    assert "platforms failed" not in done.stderr
