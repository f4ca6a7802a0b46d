"""The simple commands of a RUN, as far as they can be told without a shell. Pure.

Source: POSIX Shell Command Language, 2.9 and 2.10. What is not understood is said to be so (None), never guessed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from polyarch.dockerfile.model import Instruction

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_RESERVED = frozenset(
    {"if", "then", "elif", "else", "fi", "do", "done", "while", "until", "{", "}", "!", "time", "exec"}
)
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_REDIRECTION = frozenset("<>")
_SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash"})


def commands(run: Instruction) -> tuple[tuple[str, ...], ...] | None:
    """Each command's words, assignments and redirections taken off; None where the text is beyond this reader."""
    if run.json:
        words = tuple(run.args)
        if len(words) == 3 and words[0] in _SHELLS and words[1] == "-c":
            return script(words[2])
        return (words,) if words else ()
    if not run.heredocs:
        return script(" ".join(run.args))
    if len(run.heredocs) == 1 and run.args[0].startswith("<<") and not run.heredocs[0].content.startswith("#!"):
        return script(run.heredocs[0].content)
    return None


def script(text: str) -> tuple[tuple[str, ...], ...] | None:
    """The simple commands of a shell script, those of command substitutions among them."""
    found: list[tuple[str, ...]] = []
    for match in _SUBSTITUTION.finditer(text):
        inner = script(match[1] or match[2] or "")
        if inner is None:
            return None
        found += inner
    text = _SUBSTITUTION.sub("SUBSTITUTED", text)
    if re.search(r"\$\(|`|\bcase\b|\bfunction\b|\(\)", text):
        return None
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError:
        return None
    return tuple(found + [words for words in _split(tokens) if words])


def _split(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    parts: list[list[str]] = [[]]
    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif set(token) & _REDIRECTION and set(token) <= set("<>&|-0123456789"):
            skip = True
            if parts[-1] and parts[-1][-1].isdigit():
                parts[-1].pop()  # the file descriptor in front
        elif set(token) <= set("();&|"):
            parts.append([])
        else:
            parts[-1].append(token)
    return [_plain(words) for words in parts]


def _plain(words: Sequence[str]) -> tuple[str, ...]:
    """Without reserved words and assignments in front; `for NAME in …` runs nothing by itself."""
    rest = list(words)
    while rest and (rest[0] in _RESERVED or _ASSIGNMENT.match(rest[0])):
        rest.pop(0)
    return () if rest and rest[0] == "for" else tuple(rest)
