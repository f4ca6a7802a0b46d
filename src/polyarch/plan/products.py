"""What a stage makes, judged by the commands that it runs and by what is taken from it. Pure.

A list of what is known to be the same whatever processor ran it; a command that is not in it is no judgement at all.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from polyarch.dockerfile.graph import ImageRef, ResolvedStage
from polyarch.plan.commands import commands
from polyarch.plan.patch import reaches_c

CERTAIN, LIKELY = "certain", "likely"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXT = _words("""
    [ : awk basename break cat cd chgrp chmod chown comm continue cp cut date diff dirname echo egrep envsubst exit
    export false find fold git grep gunzip gzip head install join jq ln ls mkdir mktemp mv nl od paste patch popd
    printf pushd pwd read realpath rm rmdir sed seq set sha256sum sha512sum sleep sort split tail tar tee test touch
    tr true umask uniq unset unzip wc xz zip zstd
""")
_STAGE_ONLY = _words("addgroup adduser apk apt apt-get dnf groupadd microdnf update-ca-certificates useradd yum")
_DOWNLOADS = _words("curl wget")
_NODE = _words("corepack esbuild ng node npm npx pnpm rollup tsc vite webpack yarn")
_JAVA = _words("ant gradle gradlew jar javac mvn mvnw")
_SITES = _words("asciidoctor doxygen hugo jekyll mdbook mkdocs pandoc sphinx-build zola")
_TOOLING = _words("bundle gem pip pip3")  # what site generators are installed with
_GO = _words("build clean env fmt generate get install list mod test version vet")
_C = _words("make cmake")
_BUNDLES = _words("_site assets build bundle dist html out public site static www wwwroot")
_BUNDLED = re.compile(r"\.(css|html|js|json|map|mjs|txt)$")
_JARS = re.compile(r"\.(jar|war|ear)$")
_CC = re.compile(r"\bCGO_ENABLED=[\"']?1|\b(gcc|g\+\+|clang|build-base|build-essential|musl-dev|libc6?-dev)\b")
_OTHER_GOARCH = re.compile(r"\bGOARCH[= ](?![\"']?\$\{?TARGETARCH\b)")
_NO_CGO = re.compile(r"\bCGO_ENABLED[= ][\"']?0")
# Programs of the stage's own platform lie here.
_SYSTEM = re.compile(r"^/$|^/(usr/)?(s?bin|lib\w*)(/|$)|^/(usr|usr/local)/?$|^/usr/local/(lib|include)")
_DEBIAN = re.compile(r"^(docker\.io/)?(library/)?debian(:|$)")  # whose packages the toolchain is made of
_OWN_COMPILER = re.compile(r"\b(CC|CXX)=")
_TESTS = frozenset({"check", "test", "tests"})
# What asks for the processor without a command of its own.
_ASKS = re.compile(r"/proc/|/sys/|\b(HOSTTYPE|MACHTYPE)\b|\s-(exec|ok)(dir)?\s")
_COPIES = frozenset({"cp", "install", "ln", "mv", "tar", "cat"})


@dataclass(frozen=True, slots=True)
class Product:
    """What is made; `compiler` says which one must be told the target platform: `go`, `c`, or "" for none."""

    confidence: str
    reason: str
    compiler: Literal["", "go", "c"] = ""


def product(stage: ResolvedStage, taken: Sequence[str]) -> Product | None:
    """The stage's product, if all of its commands and all paths that are taken from it are known to be harmless."""
    found: list[tuple[str, ...]] = []
    for instruction in stage.instructions:
        if instruction.keyword == "SHELL":
            return None
        if instruction.keyword == "RUN":
            told = commands(instruction)
            if told is None:
                return None
            found += told
    words = [_unwrapped(command) for command in found]
    names = {word[0] for word in words}
    text = "\n".join([i.original + "".join(d.content for d in i.heredocs) for i in stage.instructions])
    if not taken or _ASKS.search(text) or _copies_programs(words) or any("$" in name for name in names):
        return None
    rest = names - _TEXT - _STAGE_ONLY - _DOWNLOADS
    if rest == {"go"}:
        return _go([word for word in words if word[0] == "go"], text)
    if rest and rest <= _C:
        return _c(stage, words, text)
    if any(_SYSTEM.search(path) or "$" in path for path in taken):
        return None
    if rest & _SITES and rest <= _SITES | _TOOLING:
        return Product(CERTAIN, f"{_list(rest & _SITES)} makes files that are the same on every platform")
    if rest and rest <= _NODE:
        return _node(rest, taken)
    if rest and rest <= _JAVA:
        return _java(rest, taken)
    return _files(names) if not rest else None


def _go(words: Sequence[tuple[str, ...]], text: str) -> Product | None:
    known = all(len(word) > 1 and word[1] in _GO for word in words)
    # A cross-compiling `go install` writes into another folder; of a tool (with a version) it is not asked to cross.
    installs = any(word[1:2] == ("install",) and not any("@" in part for part in word) for word in words)
    builds = any(word[1:2] == ("build",) for word in words)
    if not known or installs or not builds or _CC.search(text) or _OTHER_GOARCH.search(text):
        return None
    if _NO_CGO.search(text):
        return Product(CERTAIN, "Go without cgo compiles for every platform on any", compiler="go")
    return Product(LIKELY, "Go compiles for every platform on any, unless a package needs cgo", compiler="go")


def _c(stage: ResolvedStage, words: Sequence[tuple[str, ...]], text: str) -> Product | None:
    tests = any(_TESTS & set(word) for word in words if word[0] in _C)
    debian = isinstance(stage.base, ImageRef) and _DEBIAN.match(stage.base.name)
    if not debian or tests or _OWN_COMPILER.search(text) or not reaches_c(stage):
        return None
    return Product(LIKELY, "the cross toolchain compiles it, if its Makefile leaves CC to the caller", compiler="c")


def _node(names: set[str], taken: Sequence[str]) -> Product | None:
    bundles = all(posixpath.basename(path.rstrip("/*")) in _BUNDLES or _BUNDLED.search(path) for path in taken)
    if not bundles or any("node_modules" in path for path in taken):
        return None
    return Product(LIKELY, f"{_list(names)} bundles {_list(set(taken))}, unless native add-ons are copied into it")


def _java(names: set[str], taken: Sequence[str]) -> Product | None:
    if not all(_JARS.search(path) for path in taken):
        return None
    if names <= {"javac", "jar"}:
        return Product(CERTAIN, "class files are the same on every platform")
    return Product(
        LIKELY, f"{_list(names)} makes jars, which are the same everywhere unless they bring native libraries"
    )


def _files(names: set[str]) -> Product:
    if names & _DOWNLOADS:
        return Product(LIKELY, "it downloads and unpacks, and runs nothing of what it fetched")
    return Product(CERTAIN, "it only writes and moves files")


def _copies_programs(words: Sequence[tuple[str, ...]]) -> bool:
    return any(word[0] in _COPIES and any(_SYSTEM.search(part) for part in word[1:]) for word in words)


def _unwrapped(command: tuple[str, ...]) -> tuple[str, ...]:
    """`./mvnw` is mvnw; `bundle exec X`, `python -m X` and `npx X` run X."""
    first, rest = command[0], command[1:]
    if first == "bundle" and rest[:1] == ("exec",):
        return rest[1:] or command
    if first in {"python", "python3"} and rest[:1] == ("-m",):
        return rest[1:] or command
    return (first.removeprefix("./"), *rest) if first in {"./mvnw", "./gradlew"} else command


def _list(words: set[str]) -> str:
    return ", ".join(sorted(words))
