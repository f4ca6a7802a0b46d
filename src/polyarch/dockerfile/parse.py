"""Read a Dockerfile as BuildKit does.

The grammar of lines (directives, continuations, comments, flags, JSON, here-documents) is `e2b_dockerfile_utils`, a
port of BuildKit's own parser. It has three gaps that are closed here: it drops what stands after ONBUILD, it splits
COPY and ADD with respect to quotes (BuildKit does not), and it judges neither flags nor arguments.
"""

from __future__ import annotations

import posixpath
import re

from e2b_dockerfile_utils import (
    DockerfileAst,
    DockerfileInstruction,
    DockerfileSyntaxError,
    parse_dockerfile_ast,
    parse_heredoc,
)

from polyarch.dockerfile.grammar import (
    KEYWORDS,
    MOUNT_TYPES,
    GrammarError,
    arguments,
    check,
    mounts,
    nearest,
    stage_name,
)
from polyarch.dockerfile.model import Argument, Dockerfile, Heredoc, Instruction, Stage
from polyarch.errors import InputError

_LINE_LIMIT = 65535  # bytes; BuildKit refuses a longer line, and it bounds what a hostile file can cost
_ONBUILD = re.compile(r"^([^\S\n]*)(ONBUILD)(?=[^\S\n]+[A-Za-z\\`])", re.IGNORECASE | re.MULTILINE)
_PATTERN = re.compile(r"[*?\[\\$\"']")
_BLANK = re.compile(r"[\t\v\f\r ]+")
_LIBRARY_PREFIX = re.compile(r"Dockerfile parse error(?: on line \d+)?: ")


def parse_dockerfile(text: str, name: str) -> Dockerfile:
    """Read the text of a Dockerfile that messages call `name`.

    Raises `InputError` with `NAME:LINE: what is wrong` as its detail.
    """
    ast, put_off = _parse(text, name)
    instructions = [_instruction(raw, put_off) for raw in ast.instructions]
    if not instructions:
        raise bad(name, 1, "the file has no instructions", "a Dockerfile starts with FROM <image>")
    for instruction in instructions:
        _checked(instruction, name)
    args, stages = _stages(instructions, name)
    dockerfile = Dockerfile(name, text, args, stages, ast.escape_token)
    _check_references(dockerfile)
    return dockerfile


def parse_trigger(text: str, image: str) -> Instruction:
    """Read one ONBUILD trigger out of an image's config. Raises `InputError` naming `image`."""
    ast, put_off = _parse(text, image)
    if len(ast.instructions) != 1:
        raise bad(image, 1, f"the image's ONBUILD trigger is not one instruction: {text!r}")
    instruction = _instruction(ast.instructions[0], put_off)
    _checked(instruction, image)
    return instruction


def bad(name: str, line: int, what: str, hint: str = "") -> InputError:
    """The error of something wrong at a line of a Dockerfile."""
    return InputError(f"{name} is not a valid Dockerfile", detail=f"{name}:{line}: {what}", hint=hint)


def _parse(text: str, name: str) -> tuple[DockerfileAst, frozenset[int]]:
    """The library's tree, and the lines at which an ONBUILD starts.

    The library ignores the rest of an ONBUILD and so trips over its here-documents. Spaces in place of the word make
    it read the trigger where it stands; as the word may also stand in a here-document or a continuation line, the
    first pass finds out where instructions start and the second blanks only there.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if len(line.encode(errors="surrogatepass")) > _LINE_LIMIT:
            raise bad(name, number, f"the line is longer than {_LINE_LIMIT} bytes")
    candidates = {text.count("\n", 0, match.start()) + 1: match for match in _ONBUILD.finditer(text)}
    ast = _library(_blanked(text, list(candidates.values())), name)
    starts = frozenset(raw.start_line for raw in ast.instructions) & candidates.keys()
    if len(starts) != len(candidates):
        ast = _library(_blanked(text, [candidates[line] for line in sorted(starts)]), name)
    return ast, starts


def _blanked(text: str, matches: list[re.Match[str]]) -> str:
    pieces, end = [], 0
    for match in matches:
        pieces += [text[end : match.start(2)], " " * len(match[2])]
        end = match.end(2)
    return "".join([*pieces, text[end:]])


def _library(text: str, name: str) -> DockerfileAst:
    try:
        return parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        what = _LIBRARY_PREFIX.sub("", str(error))
        word = what.removeprefix("unknown instruction: ")
        raise bad(name, error.line or 1, what, nearest(word.upper(), KEYWORDS) if word != what else "") from error
    except RecursionError as error:
        raise bad(name, 1, "a JSON array is nested too deeply") from error


def _instruction(raw: DockerfileInstruction, put_off: frozenset[int]) -> Instruction:
    args = tuple(raw.args)
    if raw.name in {"ENV", "LABEL"}:
        args = tuple(arg for number, arg in enumerate(raw.args) if number % 3 != 2)
    elif raw.name in {"COPY", "ADD"} and not raw.json:
        args = tuple(word for word in _BLANK.split(" ".join(raw.args)) if word)
    heredocs = tuple(Heredoc(doc.name, doc.content, doc.chomp, doc.expand) for doc in raw.heredocs)
    instruction = Instruction(
        raw.name, args, tuple(raw.flags), raw.json, heredocs, raw.start_line, raw.end_line, raw.original.strip()
    )
    if raw.start_line not in put_off:
        return instruction
    return Instruction(
        "ONBUILD", (), (), False, (), raw.start_line, raw.end_line, f"ONBUILD {instruction.original}", instruction
    )


def _checked(instruction: Instruction, name: str) -> None:
    try:
        check(instruction)
    except GrammarError as error:
        raise bad(name, instruction.line, str(error), error.hint) from error


def _stages(instructions: list[Instruction], name: str) -> tuple[tuple[Argument, ...], tuple[Stage, ...]]:
    args: list[Argument] = []
    groups: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            groups.append([instruction])
        elif groups:
            groups[-1].append(instruction)
        elif instruction.keyword == "ARG":
            args += arguments(instruction)
        else:
            raise bad(name, instruction.line, f"{instruction.keyword} before the first FROM; only ARG may stand there")
    if not groups:
        raise bad(name, instructions[-1].line, "no FROM", "a Dockerfile needs FROM <image>")
    return tuple(args), tuple(_stage(index, *group) for index, group in enumerate(groups))


def _stage(index: int, first: Instruction, *rest: Instruction) -> Stage:
    name = stage_name(first)
    return Stage(index, name, first.args[0], first.flag("platform"), rest, first.line, first.end_line)


def _check_references(dockerfile: Dockerfile) -> None:
    """A number in `--from` must be a stage that the file has."""
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            for source in sources(instruction.trigger or instruction):
                if source.isascii() and source.isdecimal() and dockerfile.stage_named(source) is None:
                    known = f"the file has the stages 0 to {len(dockerfile.stages) - 1}"
                    raise bad(dockerfile.name, instruction.line, f"invalid stage index {source}", known)


def sources(instruction: Instruction) -> tuple[str, ...]:
    """What a COPY --from or a RUN --mount=from= reads, as written."""
    if instruction.keyword == "COPY":
        return (instruction.flag("from"),) if instruction.flag("from") else ()
    if instruction.keyword == "RUN":
        return tuple(mount.source for mount in mounts(instruction) if mount.source)
    return ()


def context_sources(instruction: Instruction) -> tuple[str, ...]:
    """The paths of the build context that a COPY, an ADD or a mount may read; "" for all that is in it."""
    if instruction.keyword in {"COPY", "ADD"} and not instruction.flag("from"):
        named = (word for word in instruction.args[:-1] if parse_heredoc(word) is None and "://" not in word)
        return tuple("" if _PATTERN.search(word) else posixpath.normpath(f"/{word}").lstrip("/") for word in named)
    if instruction.keyword == "RUN" and any(
        m.kind not in MOUNT_TYPES[1:] and not m.source for m in mounts(instruction)
    ):
        return ("",)
    return ()
