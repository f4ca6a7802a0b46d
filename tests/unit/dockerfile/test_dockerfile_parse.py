"""What the parser keeps, and how it refuses."""

from __future__ import annotations

import dockerfile as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyarch.dockerfile.grammar import mounts
from polyarch.dockerfile.model import Argument, Mount
from polyarch.dockerfile.parse import parse_dockerfile, parse_trigger
from polyarch.errors import InputError

# Pieces that meet in strange ways: continuations, escapes, quotes, here-documents, directives.
_PIECES = st.sampled_from([
    "FROM a", "FROM a AS b", "RUN", "COPY", "ADD", "ONBUILD", "ENV", "ARG", "SHELL", "HEALTHCHECK", "LABEL", "VOLUME",
    " ", "  ", "\n", "\n", "\r\n", "\\\n", "\\", "`", "# c\n", "# escape=`\n",
    "<<EOF", "<<-EOF", "<<'EOF'", "EOF\n",
    "\nEOF\n", "[", "]", '"', "'", '["a", "b"]', "a", "=", "--mount=", "type=bind", "from=b", ",", "--from=0", "--",
    "$A", "${A:-b}",
    "\t", "é", "\x00", "\x0b", "\u2028", "\x85", "\ufeff",
])  # fmt: skip
_TEXTS = st.lists(_PIECES, max_size=40).map("".join)


def _refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_dockerfile(text, "Dockerfile")
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("", 1, "no instructions", "FROM"),
        ("# only a comment\n", 1, "no instructions", "FROM"),
        ("ARG A=1", 1, "no FROM", "FROM"),
        ("FROM a\nRUM x", 2, "unknown instruction: RUM", "did you mean RUN?"),
        ("FROM a\n\nEXPOSED 1", 3, "unknown instruction: EXPOSED", "did you mean EXPOSE?"),
        ("RUN x\nFROM a", 1, "RUN before the first FROM", ""),
        ("FROM", 1, "FROM requires at least one argument", ""),
        ("FROM a b", 1, "FROM requires either one argument, or three", ""),
        ("FROM a AS 1b", 1, "invalid name for a stage", ""),
        ("FROM --plattform=x a", 1, "unknown flag --plattform", "--platform"),
        ("FROM a\nCOPY --form=x a b", 2, "unknown flag --form of COPY", "--from"),
        ("FROM a\nUSER --x y", 2, "unknown flag --x of USER", ""),
        ("FROM a\nCOPY --from=a --from=b x y", 2, "--from is given twice", ""),
        ("FROM a\nCOPY --from x y", 2, "missing a value on flag --from", ""),
        ("FROM a\nCOPY --link=maybe x y", 2, "true or false", ""),
        ("FROM a\nCOPY --from=1 x y", 2, "invalid stage index 1", "0 to 0"),
        ("FROM a\nCOPY --from=99999999999999999999 x y", 2, "invalid stage index", ""),
        ("FROM a\nCOPY --from=$X x y", 2, "takes no variables", "FROM"),
        ("FROM a\nCOPY x", 2, "COPY requires at least two arguments", ""),
        ("FROM a\nRUN", 2, "RUN requires at least one argument", ""),
        ("FROM a\nRUN --mount=type=bnd x", 2, "unsupported mount type 'bnd'", "did you mean bind?"),
        ("FROM a\nRUN --mount=tpye=bind x", 2, "unexpected key 'tpye'", "did you mean type?"),
        ("FROM a\nRUN --mount=type x", 2, "must be key=value", ""),
        ("FROM a\nRUN --mount=from=$X,target=/x y", 2, "takes no variables", "FROM"),
        ("FROM a\nRUN <<EOF\nx", 2, "unterminated heredoc", ""),
        ('FROM a\nRUN ["a", 1]', 2, "Only strings", ""),
        ("FROM a\nSHELL x y", 2, "JSON form", ""),
        ("FROM a\nENV A", 2, "ENV must have two arguments", ""),
        ("FROM a\nENV A=1 B", 2, "can't find =", ""),
        ("FROM a\nENV =1", 2, "names can not be blank", ""),
        ("FROM a\nARG =1", 2, "names can not be blank", ""),
        ("FROM a\nHEALTHCHECK NONE x", 2, "takes no arguments", ""),
        ("FROM a\nHEALTHCHECK CMD", 2, "missing command", ""),
        ("FROM a\nHEALTHCHECK RUN x", 2, "unknown type 'RUN'", ""),
        ("FROM a\nONBUILD", 2, "ONBUILD requires at least one argument", ""),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, "ONBUILD isn't allowed as an ONBUILD trigger", ""),
        ("FROM a\nONBUILD FROM x", 2, "FROM isn't allowed as an ONBUILD trigger", ""),
        ("FROM a\nONBUILD COPY --from=7 x y", 2, "invalid stage index 7", ""),
        ("# escape=x\nFROM a", 1, "invalid escape token", ""),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive", ""),
        ("FROM a\nRUN " + "x" * 70000, 2, "longer than 65535 bytes", ""),
        ("FROM a\nRUN " + "[" * 20000, 1, "nested too deeply", ""),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, says: str, hint: str) -> None:
    error = _refusal(text)
    assert error.detail.startswith(f"Dockerfile:{line}: ")
    assert says in error.detail
    assert hint in error.hint


def test_global_args_keep_order_and_defaults() -> None:
    file = parse_dockerfile('ARG A\nARG B="x y" C=\nFROM a', "f")
    assert file.args == (Argument("A", None, 1), Argument("B", '"x y"', 2), Argument("C", "", 2))


def test_stage_names_are_lower_case_and_the_last_of_a_name_wins() -> None:
    file = parse_dockerfile("FROM a AS X\nFROM b AS x\nFROM c", "f")
    assert [stage.name for stage in file.stages] == ["x", "x", ""]
    found = file.stage_named("X")
    assert found is not None
    assert found.index == 1


def test_an_onbuild_with_a_heredoc_keeps_it_with_its_trigger() -> None:
    file = parse_dockerfile("FROM a\nONBUILD RUN <<EOF\nx\nEOF\nUSER y", "f")
    onbuild, user = file.stages[0].instructions
    assert onbuild.trigger is not None
    assert [document.content for document in onbuild.trigger.heredocs] == ["x\n"]
    assert (onbuild.line, onbuild.end_line, user.line) == (2, 4, 5)


def test_the_word_onbuild_is_untouched_where_no_instruction_starts() -> None:
    file = parse_dockerfile("FROM a\nRUN <<EOF\nONBUILD RUN x\nEOF\nRUN a \\\nONBUILD RUN x", "f")
    first, second = file.stages[0].instructions
    assert first.heredocs[0].content == "ONBUILD RUN x\n"
    assert second.args == ("a ONBUILD RUN x",)


def test_mounts_are_read_as_comma_separated_values() -> None:
    file = parse_dockerfile("FROM a\nRUN --mount='type=cache,\"target=/a,b\"' --mount=from=x,dst=/y z", "f")
    assert mounts(file.stages[0].instructions[0]) == (Mount("cache", "", "/a,b"), Mount("bind", "x", "/y"))


def test_a_trigger_of_an_image_is_one_instruction() -> None:
    assert parse_trigger("COPY . /app", "node:onbuild").keyword == "COPY"
    with pytest.raises(InputError, match="node:onbuild"):
        parse_trigger("RUN a\nRUN b", "node:onbuild")


@given(st.text() | _TEXTS)
@settings(max_examples=500, deadline=2000)
def test_any_text_is_read_or_refused_with_an_input_error(text: str) -> None:
    try:
        file = parse_dockerfile(text, "f")
    except InputError as error:
        detail = error.detail
    else:
        detail = f"f:{file.stages[0].line}"
    assert detail.startswith("f:")


@given(_TEXTS.map(lambda text: f"FROM a\n{text}"))
@settings(max_examples=500, deadline=2000)
def test_what_is_read_is_what_buildkit_reads(text: str) -> None:
    try:
        file = parse_dockerfile(text, "f")
    except InputError:
        return  # BuildKit's line parser refuses less: it does not judge flags and arguments
    theirs = [(c.cmd.upper(), c.start_line, c.end_line) for c in oracle.parse_string(text)]
    froms = [("FROM", stage.line, stage.end_line) for stage in file.stages]
    ours = [(i.keyword, i.line, i.end_line) for stage in file.stages for i in stage.instructions]
    args = [("ARG", argument.line) for argument in file.args]
    assert sorted([*froms, *ours], key=lambda told: told[1]) == theirs
    assert not args
