"""Which stages count for a platform, what their names mean, and what varies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from polyarch.arch import Platform
from polyarch.dockerfile.graph import ContextRef, Graph, ImageRef, ResolvedStage, Scratch, StageRef, resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.errors import InputError

AMD64, ARM64, ARMV7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")


def _graph(
    text: str,
    *,
    target: str = "",
    platform: Platform = ARM64,
    args: Mapping[str, str] | None = None,
    contexts: Collection[str] = (),
    onbuild: Mapping[str, Sequence[str]] | None = None,
) -> Graph:
    file = parse_dockerfile(text, "Dockerfile")
    return resolve(file, platform, AMD64, args or {}, target, contexts=contexts, onbuild=onbuild)


def _last(text: str, **more: object) -> ResolvedStage:
    return _graph(text, **more).target  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "args", "image"),
    [
        ("ARG V=1\nFROM a:$V", {}, "a:1"),
        ("ARG V=1\nFROM a:${V}", {"V": "2"}, "a:2"),
        ("ARG V\nFROM a:${V:-3}", {}, "a:3"),
        ("ARG V=\nFROM a:${V:-3}", {}, "a:3"),
        ("ARG V=x\nFROM a${V:+:slim}", {}, "a:slim"),
        ("FROM a${V:+:slim}", {"V": "not declared"}, "a"),
        ('ARG V="1"\nFROM "a:$V"', {}, "a:1"),
        ("ARG A=1\nARG B=${A}2\nFROM a:$B", {}, "a:12"),
        ("ARG B=${A}2\nARG A=1\nFROM a:$B", {}, "a:2"),
        ("FROM a-$TARGETARCH:$BUILDOS", {}, "a-arm64:linux"),
        ("FROM a:$TARGETARCH$TARGETVARIANT", {}, "a:armv7"),
        ("ARG V=1\nFROM b\nARG V=2\nFROM a:$V", {}, "a:1"),
    ],
)
def test_a_base_is_expanded_in_the_global_scope(text: str, args: dict[str, str], image: str) -> None:
    platform = ARMV7 if "VARIANT" in text else ARM64
    assert _last(text, args=args, platform=platform).base == ImageRef(image)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ARG V\nFROM $V", "Dockerfile:2: the image name is empty"),
        ("FROM a\nFROM ${X:?set it}", "Dockerfile:2: "),
        ("FROM a:${X", "Dockerfile:1: "),
        ("FROM --platform=$X a", "Dockerfile:1: empty platform value"),
        ("FROM --platform=linux/amd46 a", "Dockerfile:1: unknown platform"),
        ("FROM Upper", "Dockerfile:1: 'Upper' is not an image reference"),
        ("FROM a\nCOPY --from=Not/An/Image x y", "Dockerfile:2: "),
        ("FROM a AS x\nCOPY --from=x /a /b", "Dockerfile:1: stages need each other: x needs x"),
        ("FROM a AS x\nCOPY --from=y /a /b\nFROM b AS y\nCOPY --from=x /a /b", "stages need each other"),
    ],
)
def test_what_does_not_resolve_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        _graph(text)
    assert says in caught.value.detail


def test_a_bad_base_of_a_stage_that_is_not_needed_does_no_harm() -> None:
    assert _last("FROM a:$UNSET AS unused\nFROM b").base == ImageRef("b")


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        _graph("FROM a AS build\nFROM b AS final", target="biuld")
    assert caught.value.hint == "did you mean build?"
    assert "final" in caught.value.detail


@pytest.mark.parametrize("target", ["build", "BUILD", "0"])
def test_a_target_is_a_name_in_any_case_or_a_number(target: str) -> None:
    assert _graph("FROM a AS Build\nFROM b", target=target).target.index == 0


def test_only_what_the_target_needs_is_kept_in_order() -> None:
    text = (
        "FROM a AS one\nFROM b AS unused\nFROM c AS two\nFROM one AS three\nFROM d\n"
        "RUN --mount=from=two,target=/x y\nCOPY --from=three /a /b"
    )
    graph = _graph(text)
    assert [stage.index for stage in graph.stages] == [0, 2, 3, 4]
    assert graph.target.needs == (2, 3)
    assert graph.images == ("a", "c", "d")


def test_a_copy_may_name_a_stage_below_which_then_comes_first() -> None:
    graph = _graph("FROM a AS one\nCOPY --from=two /a /b\nFROM b AS two", target="one")
    assert [stage.index for stage in graph.stages] == [1, 0]


def test_a_from_that_names_itself_or_a_later_stage_is_an_image() -> None:
    graph = _graph("FROM nginx AS nginx\nFROM debian AS later\nFROM nginx")
    assert graph.stages[0].base == ImageRef("nginx")
    assert graph.target.base == StageRef(0)
    assert _graph("FROM late AS x\nFROM b AS late", target="x").target.base == ImageRef("late")


def test_what_is_copied_from_is_a_stage_an_image_or_a_context() -> None:
    text = "FROM a AS s\nFROM b\nCOPY --from=0 /a /b\nCOPY --from=nginx:1 /c /d\nCOPY --from=ctx /e /f"
    last = _last(text, contexts={"ctx"})
    assert (last.needs, last.images, last.contexts) == ((0,), ("nginx:1",), ("ctx",))


def test_a_named_context_wins_over_a_stage_and_an_image() -> None:
    assert _last("FROM a AS s\nFROM s", contexts={"s"}).base == ContextRef("s")
    assert _last("FROM alpine", contexts={"alpine"}).base == ContextRef("alpine")


def test_scratch_is_no_image() -> None:
    graph = _graph("FROM scratch\nCOPY a /a")
    assert graph.target.base == Scratch()
    assert graph.images == ()


def test_a_platform_is_the_flag_or_the_target_or_that_of_the_stage_below() -> None:
    graph = _graph("FROM --platform=$BUILDPLATFORM a AS x\nFROM x AS y\nFROM --platform=arm/v7 b AS z\n"
                   "FROM c\nCOPY --from=y /1 /\nCOPY --from=z /2 /")  # fmt: skip
    assert [str(stage.platform) for stage in graph.stages] == [
        "linux/amd64",
        "linux/amd64",
        "linux/arm/v7",
        "linux/arm64",
    ]
    assert [stage.pinned for stage in graph.stages] == [True, True, False, False]


def test_a_platform_through_an_arg_of_the_build_platform_is_pinned() -> None:
    stage = _last("ARG P=${BUILDPLATFORM}\nFROM --platform=$P a")
    assert (stage.pinned, stage.platform) == (True, AMD64)
    assert not _last("ARG P=$BUILDPLATFORM\nFROM --platform=$P a", args={"P": "linux/arm64"}).pinned


@pytest.mark.parametrize(
    ("text", "varies"),
    [
        ("FROM a", True),
        ("FROM scratch", True),
        ("FROM --platform=$BUILDPLATFORM a\nRUN x", False),
        ("FROM --platform=linux/amd64 a\nRUN x", False),
        ("FROM --platform=$TARGETPLATFORM a", True),
        ("FROM --platform=$BUILDPLATFORM a\nARG TARGETARCH", True),
        ("FROM --platform=$BUILDPLATFORM a\nARG BUILDARCH", False),
        ("FROM --platform=$BUILDPLATFORM a-$TARGETARCH", True),
        ("ARG X=$TARGETOS\nARG Y=$X\nFROM --platform=$BUILDPLATFORM a\nARG Y", True),
        ("ARG X=$TARGETOS\nFROM --platform=$BUILDPLATFORM a\nRUN x", False),
        ("FROM a AS t\nFROM --platform=$BUILDPLATFORM b\nCOPY --from=t /a /b", True),
        ("FROM --platform=$BUILDPLATFORM a AS t\nFROM --platform=$BUILDPLATFORM b\nCOPY --from=t /a /b", False),
        ("FROM --platform=$BUILDPLATFORM a\nCOPY --from=nginx /a /b", True),
        ("FROM --platform=$BUILDPLATFORM a AS t\nONBUILD ARG TARGETARCH\nFROM t", True),
    ],
)
def test_a_stage_varies_when_anything_in_it_follows_the_target(text: str, varies: bool) -> None:
    assert _last(text).varies_by_platform is varies


@pytest.mark.parametrize(
    ("text", "executes"),
    [
        ("FROM a\nCOPY b c", False),
        ("FROM a\nRUN b", True),
        ("FROM a\nONBUILD RUN b", False),
        ("FROM a AS t\nONBUILD RUN b\nFROM t", True),
        ("FROM a AS t\nONBUILD RUN b\nFROM t AS u\nFROM u", False),
    ],
)
def test_a_stage_executes_its_own_runs_and_its_bases_put_off_runs(text: str, executes: bool) -> None:
    assert _last(text).executes is executes


def test_triggers_of_an_image_are_taken_in_once_they_are_known() -> None:
    text = "FROM node:onbuild"
    assert not _last(text).executes
    stage = _last(text, onbuild={"node:onbuild": ["COPY --from=nginx /a /b", "RUN --mount=type=ssh npm ci"]})
    assert stage.executes
    assert stage.images == ("nginx",)
    assert stage.mount_types == {"ssh"}


def test_a_long_chain_of_stages_resolves_without_deep_recursion() -> None:
    text = "FROM a AS s0\n" + "\n".join(f"FROM s{n} AS s{n + 1}" for n in range(2000))
    assert len(_graph(text).stages) == 2001
