"""A file for one platform: exact images, nothing needless, no here-documents, no line moved."""

from __future__ import annotations

import pytest
from dockerfile_shapes import ALL
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import Platform
from polyarch.dockerfile.environment import BaseConfig
from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.dockerfile.rewrite import Pinned, pin
from polyarch.errors import InputError

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def _pin(text: str, images: dict[int, str] | None = None, *, target: str = "", args: dict[str, str] | None = None,
         **more: object) -> Pinned:  # fmt: skip
    file = parse_dockerfile(text, "Dockerfile")
    graph = resolve(file, ARM64, AMD64, args or {}, target)
    pinned = pin(file, graph, images or {}, **more)  # type: ignore[arg-type]
    assert pinned.text.count("\n") == text.count("\n")
    return pinned


def _lines(text: str, images: dict[int, str] | None = None, **more: object) -> list[str]:
    return _pin(text, images, **more).text.split("\n")  # type: ignore[arg-type]


def test_a_from_becomes_the_exact_image_with_its_platform() -> None:
    text = "# c\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nRUN x\nFROM b\nCOPY --from=build /a /b"
    assert _lines(text, {0: "localhost/a@1", 1: "localhost/b"}) == [
        "# c", "ARG V=1", "FROM --platform=linux/amd64 localhost/a@1 AS build", "RUN x",
        "FROM --platform=linux/arm64 localhost/b", "COPY --from=build /a /b",
    ]  # fmt: skip


def test_a_from_over_several_lines_leaves_empty_ones() -> None:
    assert _lines("FROM \\\n  a \\\n  AS x\nRUN y", {0: "i"}) == ["FROM --platform=linux/arm64 i AS x", "", "", "RUN y"]


def test_a_from_of_a_stage_stays_one() -> None:
    assert _lines("FROM a AS Base\nFROM --platform=linux/s390x BASE", {0: "i"})[1] == "FROM base"


def test_what_an_image_has_already_is_left_out_and_settings_stay() -> None:
    text = "FROM a AS u\nRUN x\nFROM b AS v\nRUN y\nFROM c\nENV A=1\nCOPY --from=u /a /a\nRUN <<E\nz\nE\n"
    text += "COPY --from=v /b /b"
    assert _lines(text, {0: "i", 1: "j", 2: "prefix"}, done=3) == [
        "FROM scratch AS u", "", "FROM --platform=linux/arm64 j AS v", "RUN y", "FROM --platform=linux/arm64 prefix",
        "ENV A=1", "", "", "", "", "COPY --from=v /b /b",
    ]  # fmt: skip


def test_stages_that_are_not_needed_cost_nothing_and_keep_their_number() -> None:
    text = "FROM a AS u\nRUN <<EOF\nx\nEOF\nFROM b AS s\nFROM c\nCOPY --from=1 /a /b\nFROM d AS later\nRUN z"
    assert _lines(text, {1: "i", 2: "j"}, target="2") == [
        "FROM scratch AS u", "", "", "", "FROM --platform=linux/arm64 i AS s", "FROM --platform=linux/arm64 j",
        "COPY --from=1 /a /b", "", "",
    ]  # fmt: skip


def test_a_stage_that_is_built_stands_for_itself_and_all_it_needed() -> None:
    text = "FROM a AS one\nRUN x\nFROM --platform=$BUILDPLATFORM one AS two\nRUN y\nFROM c\nCOPY --from=two /a /b"
    assert _lines(text, {2: "j"}, built={1: "localhost/two"}) == [
        "FROM scratch AS one", "", "FROM --platform=linux/arm64 localhost/two AS two", "",
        "FROM --platform=linux/arm64 j", "COPY --from=two /a /b",
    ]  # fmt: skip


def test_a_stage_that_starts_from_an_exact_image_does_not_need_the_stage_below_it() -> None:
    assert _lines("FROM a AS b\nRUN x\nFROM b", {1: "i"}) == ["FROM scratch AS b", "", "FROM --platform=linux/arm64 i"]


def test_a_stage_below_cannot_be_read_by_buildah() -> None:
    with pytest.raises(InputError, match="not a valid Dockerfile") as caught:
        _pin("FROM a AS one\nCOPY --from=two /a /b\nFROM b AS two", target="one")
    assert "which buildah cannot build" in caught.value.detail


def test_images_copied_and_mounted_from_are_replaced_where_they_are_named() -> None:
    text = (
        "FROM a\nCOPY --from=nginx --chown=1:1 nginx /b\nCOPY \\\n  --from=nginx \\\n  /x /y\n"
        "RUN --mount=type=bind,from=nginx,target=/n --mount=from=nginx,target=/m echo from=nginx\n"
        "COPY --from=nginx:1 /c /d\nONBUILD COPY --from=nginx /e /f"
    )
    assert _lines(text, {0: "i"}, copied={"nginx": "localhost/n"})[1:] == [
        "COPY --from=localhost/n --chown=1:1 nginx /b", "COPY \\", "  --from=localhost/n \\", "  /x /y",
        "RUN --mount=type=bind,from=localhost/n,target=/n --mount=from=localhost/n,target=/m echo from=nginx",
        "COPY --from=nginx:1 /c /d", "ONBUILD COPY --from=localhost/n /e /f",
    ]  # fmt: skip


def test_link_is_taken_off_for_buildah_refuses_it() -> None:
    assert _lines("FROM a\nCOPY --link --from=b /c /d\nADD --chown=1 --link=true \\\n  e /f")[1:] == [
        "COPY --from=b /c /d", "ADD --chown=1 \\", "  e /f",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'RUN <<EOF\necho "it\'s"\n\techo \\\\\nEOF',
            'RUN ["/bin/sh", "-c", "echo \\"it\'s\\"\\n\\techo \\\\\\\\\\n"]',
        ),
        ("RUN <<-EOF\n\techo\n\tEOF", 'RUN ["/bin/sh", "-c", "echo\\n"]'),
        ("RUN cat <<'X' > /y\n$a\nX", 'RUN ["/bin/sh", "-c", "cat <<\'X\' > /y\\n$a\\nX"]'),
        ("RUN a <<X && b <<Y\n1\nX\n2\nY", 'RUN ["/bin/sh", "-c", "a <<X && b <<Y\\n1\\nX\\n2\\nY"]'),
        ("RUN --network=none <<EOF\na\nEOF", 'RUN --network=none ["/bin/sh", "-c", "a\\n"]'),
        (
            'RUN --mount=type=cache,"target=/a b" <<EOF\na\nEOF',
            'RUN "--mount=type=cache,target=/a b" ["/bin/sh", "-c", "a\\n"]',
        ),
        ("ONBUILD RUN <<EOF\na\nEOF", 'ONBUILD RUN ["/bin/sh", "-c", "a\\n"]'),
    ],
)
def test_a_run_with_a_heredoc_becomes_its_json_form(text: str, line: str) -> None:
    pinned = _pin(f"FROM a\n{text}")
    assert pinned.text.split("\n")[1] == line
    assert not pinned.files


@pytest.mark.parametrize(("directive", "escape"), [("", "\\"), ("# escape=`\n", "`")])
def test_a_long_heredoc_is_folded_for_buildah_drops_a_line_of_64_kib(directive: str, escape: str) -> None:
    script = "".join(f"echo {'é' * 30} # {number}\n" for number in range(1000))
    lines = _lines(f"{directive}FROM a\nRUN <<EOF\n{script}EOF").copy()
    pieces = [line for line in lines if line][2 if directive else 1 :]
    assert len(pieces) == 2
    assert all(len(piece.encode()) < 65000 for piece in pieces)
    assert pieces[0].endswith(escape)
    whole = parse_dockerfile("\n".join(lines), "f").stages[0].instructions[0]
    assert whole.args == ("/bin/sh", "-c", script)


def test_a_heredoc_runs_in_the_shell_in_force() -> None:
    text = 'FROM a AS b\nSHELL ["/bin/bash", "-ec"]\nFROM b\nRUN <<EOF\nx\nEOF'
    assert _lines(text)[3] == 'RUN ["/bin/bash", "-ec", "x\\n"]'
    assert (
        _lines("FROM a\nRUN <<EOF\nx\nEOF", bases={0: BaseConfig({}, ("ash", "-c"))})[1] == 'RUN ["ash", "-c", "x\\n"]'
    )


def test_a_heredoc_with_an_interpreter_is_a_mounted_script() -> None:
    pinned = _pin("FROM a\nRUN --network=none <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF")
    assert pinned.text.split("\n")[1] == (
        'RUN --network=none --mount=type=bind,from=polyarch-heredocs,source=2/EOF,target=/.heredoc-2 ["/.heredoc-2"]'
    )
    (script,) = pinned.files
    assert (script.path, script.mode, script.content) == ("2/EOF", 0o755, b"#!/usr/bin/env python3\nprint(1)\n")


def test_a_copied_heredoc_is_a_generated_file_beside_the_other_sources() -> None:
    text = "FROM a\nCOPY --link --chmod=600 x <<one <<-'two' /d/\n$A\none\n\t$A\n\ttwo"
    pinned = _pin(text)
    assert pinned.text.split("\n")[1:3] == [
        "COPY --chmod=600 x /d/", "COPY --from=polyarch-heredocs --chmod=600 2/one 2/two /d/",
    ]  # fmt: skip
    assert [(file.path, file.mode, file.content) for file in pinned.files] == [
        ("2/one", 0o644, b"\n"), ("2/two", 0o644, b"$A\n"),
    ]  # fmt: skip


def test_an_added_heredoc_is_copied_without_what_only_add_knows() -> None:
    assert _lines("FROM a\nADD --checksum=sha256:x --chown=1 <<f /d\nx\nf")[1] == (
        "COPY --from=polyarch-heredocs --chown=1 2/f /d"
    )


def test_variables_in_a_copied_heredoc_come_from_args_and_env_with_env_first() -> None:
    text = (
        "ARG G=global\nFROM a AS b\nENV E=parent BASE=$BASE-more\nARG LOST=1\nFROM b\nARG G\nARG D=${E}-default\n"
        "ARG S=arg\nENV S=env\nARG TARGETARCH\nARG B=x\n"
        "COPY <<f /f\n$G|$D|$S|$E|$BASE|$TARGETARCH|$B|$LOST|$TARGETOS|${N:-none}|\\$G|'$G'|\"$G\"\nf"
    )
    (file,) = _pin(text, args={"B": "given"}, bases={0: BaseConfig({"BASE": "base"})}).files
    assert file.content.decode() == (
        "global|parent-default|env|parent|base-more|arm64|given|||none|$G|'global'|\"global\"\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('FROM a\nCOPY <<"../../etc/x" /\nx\n../../etc/x', "is no file name"),
        ("FROM a\nCOPY <<.. /d\nx\n..", "is no file name"),
        ("FROM a\nRUN <<'a/b'\n#!/bin/sh\na/b", "is no file name"),
        ("FROM a\nCOPY x <<f /d\ny\nf", "must end with a /"),
        ("FROM a\nCOPY <<f /d\n${A\nf", "in the here-document f"),
        (f"FROM a\nRUN <<f\n{'a' + chr(1) * 60000}\nf", "too long"),
        (f"FROM a\nRUN <<f\n{'#' * 65000}\n{'#' * 65000}\nf", "too long"),
        ("FROM a\nONBUILD COPY <<f /d\nx\nf", "ONBUILD"),
        ("FROM a\nONBUILD RUN <<f\n#!/bin/sh\nf", "ONBUILD"),
    ],
)
def test_a_heredoc_that_has_no_form_for_buildah_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        _pin(text)
    assert caught.value.detail.startswith("Dockerfile:2: ")
    assert says in caught.value.detail


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=4), st.booleans())
def test_pinning_any_files_together_keeps_their_lines_and_can_be_repeated(texts: list[str], windows: bool) -> None:
    # Directives and byte order marks count at the top alone, so no file that has one may stand below another.
    plain = [text for text in texts if not text.startswith(("#", "\ufeff"))] or ["FROM a"]
    whole = "\n".join(plain).replace("\n", "\r\n" if windows else "\n")
    try:
        file = parse_dockerfile(whole, "f")
        graph = resolve(file, ARM64, AMD64, {})
    except InputError:
        return  # stages of several files may name each other in a circle
    images = {stage.index: f"localhost/{stage.index}" for stage in graph.stages}
    once = pin(file, graph, images).text
    assert once.count("\n") == whole.count("\n")
    again = parse_dockerfile(once, "f")
    assert pin(again, resolve(again, ARM64, AMD64, {}), images).text == once
