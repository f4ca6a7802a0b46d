"""Here-documents in words that buildah older than 1.33 understands, and flags it refuses though it may ignore them.

A RUN becomes its JSON form with the shell in force, or, where the document names its own interpreter, a mounted script;
a COPY or ADD copies a generated file out of an additional build context. BuildKit's rules are in
`dockerfile2llb/convert.go` (`dispatchRun`, `dispatchCopy`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from e2b_dockerfile_utils import ShellLex, chomp_heredoc_content, parse_heredoc

from polyarch.dockerfile.environment import Surroundings
from polyarch.dockerfile.model import Dockerfile, Heredoc, Instruction
from polyarch.dockerfile.parse import bad

CONTEXT = "polyarch-heredocs"
# buildah 1.28 takes a line of 64 KiB for the end of the file, says nothing and builds the rest of the image.
_LINE_LIMIT = 60000  # bytes
_ADD_ONLY = frozenset({"--checksum", "--keep-git-dir", "--unpack"})
_FILE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+-]+")


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file that the build needs: path within the additional build context `CONTEXT`, permission bits, content."""

    path: str
    mode: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Lowered:
    """The lines that stand for one instruction (never more than it had), and the files they read."""

    lines: tuple[str, ...]
    files: tuple[GeneratedFile, ...] = ()


def lower(dockerfile: Dockerfile, instruction: Instruction, around: Surroundings) -> Lowered:
    """An instruction with here-documents, without them. Raises `InputError` where that cannot be said."""
    active = instruction.trigger or instruction
    lowered = (_run if active.keyword == "RUN" else _copy)(dockerfile, active, around)
    if instruction.trigger and lowered.files:
        raise bad(
            dockerfile.name, instruction.line, "an ONBUILD with this here-document would need a file at a later build",
            "put the text into a file of the build context",
        )  # fmt: skip
    prefix = "ONBUILD " if instruction.trigger else ""
    lines = [piece for line in lowered.lines for piece in _folded(prefix + line, dockerfile.escape)]
    if len(lines) > instruction.end_line - instruction.line + 1 or len(lines[-1].encode()) > _LINE_LIMIT:
        raise bad(
            dockerfile.name, instruction.line, "the here-document is too long for one command",
            "put the text into a file of the build context",
        )  # fmt: skip
    return Lowered(tuple(lines), lowered.files)


def words(flags: tuple[str, ...]) -> str:
    """Flags as they are written in front of arguments, with a blank after each."""
    return "".join(f'"{flag}" ' if re.search(r"[\s']", flag) else f"{flag} " for flag in flags)


def _run(dockerfile: Dockerfile, run: Instruction, around: Surroundings) -> Lowered:
    command, first = run.args[0], run.heredocs[0]
    if parse_heredoc(command) is None:
        documents = "".join(f"\n{document.content}{document.name}" for document in run.heredocs)
        return Lowered((f"RUN {words(run.flags)}{_json(*around.shell, command + documents)}",))
    if not first.content.startswith("#!"):
        return Lowered((f"RUN {words(run.flags)}{_json(*around.shell, _content(first))}",))
    script = GeneratedFile(f"{run.line}/{_file_name(dockerfile, run, first)}", 0o755, _content(first).encode())
    # A mount point directly under / is the only one that buildah takes away again.
    target = f"/.heredoc-{run.line}"
    mount = f"--mount=type=bind,from={CONTEXT},source={script.path},target={target}"
    return Lowered((f"RUN {words((*run.flags, mount))}{_json(target)}",), (script,))


def _copy(dockerfile: Dockerfile, copy: Instruction, around: Surroundings) -> Lowered:
    *sources, destination = copy.args
    plain = [source for source in sources if parse_heredoc(source) is None]
    if len(sources) > 1 and not destination.endswith("/"):
        raise bad(dockerfile.name, copy.line, "a destination for several sources must end with a /")
    files = tuple(
        GeneratedFile(f"{copy.line}/{_file_name(dockerfile, copy, document)}", 0o644, text.encode())
        for document in copy.heredocs
        for text in (_expanded(dockerfile, copy, document, around),)
    )
    flags = tuple(flag for flag in copy.flags if flag.partition("=")[0] != "--link")
    kept = tuple(flag for flag in flags if flag.partition("=")[0] not in _ADD_ONLY)
    paths = " ".join(file.path for file in files)
    lines = [f"COPY --from={CONTEXT} {words(kept)}{paths} {destination}"]
    if plain:
        lines.insert(0, f"{copy.keyword} {words(flags)}{' '.join(plain)} {destination}")
    return Lowered(tuple(lines), files)


def _expanded(dockerfile: Dockerfile, copy: Instruction, document: Heredoc, around: Surroundings) -> str:
    text = _content(document)
    if not document.expand:
        return text
    try:
        lex = ShellLex("\\", skip_process_quotes=True, env=around.values, skip_unset_env=False)
        return lex.process_word(text)
    except ValueError as error:
        raise bad(dockerfile.name, copy.line, f"in the here-document {document.name}: {error}") from error


def _folded(line: str, escape: str) -> list[str]:
    """A line as continuation lines that buildah can read: none starts as a comment does or ends in an escape.

    The last one is too long where there is no such place to cut.
    """
    pieces = []
    while len(line.encode()) > _LINE_LIMIT:
        most = len(line.encode()[:_LINE_LIMIT].decode(errors="ignore"))
        fits = (at for at in range(most, most // 2, -1) if line[at - 1] not in "\\` \t" and line[at] not in "# \t")
        end = next(fits, None)
        if end is None:
            break
        pieces.append(line[:end] + escape)
        line = line[end:]
    return [*pieces, line]


def _content(document: Heredoc) -> str:
    return chomp_heredoc_content(document.content) if document.chomp else document.content


def _file_name(dockerfile: Dockerfile, instruction: Instruction, document: Heredoc) -> str:
    """The document's name, which the caller will make a file of: nothing that leads out of a folder."""
    if not _FILE_NAME.fullmatch(document.name):
        raise bad(dockerfile.name, instruction.line, f"the here-document's name {document.name!r} is no file name")
    return document.name


def _json(*argv: str) -> str:
    return json.dumps(argv, ensure_ascii=False)
