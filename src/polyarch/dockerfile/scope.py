"""The global ARG scope, and which of its values come from the target's or the build machine's platform.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope" and "Understand how ARG and FROM interact".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from e2b_dockerfile_utils import ShellLex

from polyarch.arch import Platform
from polyarch.dockerfile.model import Dockerfile
from polyarch.dockerfile.parse import bad

TARGET_ARGS = frozenset({"TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"})
BUILD_ARGS = frozenset({"BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"})
_NAME = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Scope:
    """Names and values, and the names whose value follows the target platform or the build platform."""

    values: Mapping[str, str]
    by_target: frozenset[str] = TARGET_ARGS
    by_build: frozenset[str] = BUILD_ARGS


def predefined(target: Platform, build: Platform) -> dict[str, str]:
    """The platform ARGs that exist without being declared (in the global scope; stages must declare them)."""
    return {
        f"{prefix}{suffix}": value
        for prefix, platform in (("TARGET", target), ("BUILD", build))
        for suffix, value in (
            ("PLATFORM", str(platform)), ("OS", platform.os), ("ARCH", platform.architecture),
            ("VARIANT", platform.variant),
        )
    }  # fmt: skip


def global_scope(dockerfile: Dockerfile, target: Platform, build: Platform, build_args: Mapping[str, str]) -> Scope:
    """What FROM lines can use: the platform ARGs and the ARGs before the first FROM, later ones made of earlier.

    A build argument counts only where the file declares its name. Raises `InputError` with the line of a default that
    does not expand.
    """
    values = predefined(target, build)
    values |= {name: value for name, value in build_args.items() if name in values}
    by_target, by_build = set(TARGET_ARGS), set(BUILD_ARGS)
    for argument in dockerfile.args:
        used: frozenset[str] = frozenset()
        if argument.name in build_args:
            values[argument.name] = build_args[argument.name]
        elif argument.default is not None:
            used = names_in(argument.default)
            values[argument.name] = expand(dockerfile, argument.default, values, argument.line)
        else:
            continue
        for names in (by_target, by_build):
            (names.add if used & names else names.discard)(argument.name)
    return Scope(values, frozenset(by_target), frozenset(by_build))


def names_in(text: str) -> frozenset[str]:
    """The names of all variables that the text mentions, within quotes or words of substitutions too."""
    return frozenset(_NAME.findall(text))


def expand(dockerfile: Dockerfile, text: str, values: Mapping[str, str], line: int) -> str:
    """The text with variables replaced and quotes removed; unset ones are empty. Raises `InputError` with the line."""
    try:
        return ShellLex(dockerfile.escape, env=values, skip_unset_env=False).process_word(text)
    except ValueError as error:
        raise bad(dockerfile.name, line, str(error)) from error
