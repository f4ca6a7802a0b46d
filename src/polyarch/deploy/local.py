"""Run one platform of an image on this machine: a working container in polyarch's namespace, gone afterwards."""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import dataclass

from polyarch import run
from polyarch.arch import Platform
from polyarch.build.engine import Engine, open_engine
from polyarch.errors import HostError, InputError, MissingProgramError, StartError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout, platforms_of
from polyarch.oci.model import Document, Manifest, RunConfig, parse_config

_KILLED = 128  # plus the signal's number, as in shells
_BUILDAH = run.Carrier(
    frozenset({"nsenter", "buildah", "buildah-chroot-runtime", "buildah-chroot-exec"}),
    re.compile(
        rb"subprocess exited |Error: exit status |process failed to start|process exited with error|"
        rb"error waiting for process|Error: while running runtime"
    ),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What `polyarch run` is asked for; empty means the image's own."""

    platform: Platform
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    entrypoint: str | None = None
    user: str = ""
    workdir: str = ""


def run_here(layout: Layout, image: Document, name: str, wish: Wish, facts: Facts) -> int:
    """Run to the end with this terminal; returns the program's exit code.

    Raises `InputError` when the image lacks the platform or has nothing to run, `HostError` when nothing here executes
    the platform.
    """
    digest, config = _choose(layout, image, name, wish.platform)
    argv = _command(config, wish, name)
    execution = facts.execution(wish.platform)
    if execution.way == "none":
        raise HostError(f"nothing here executes {wish.platform}: {execution.why}", hint=execution.fix)
    with open_engine(layout, facts, [wish.platform]) as engine:
        asyncio.run(engine.import_bases([digest]))
        container = engine.start_container(digest)
        try:
            done = _attach(engine, container, argv, wish)
        finally:
            engine.remove_container(container)
    return _code(done, argv[0], wish, name)


def _attach(engine: Engine, container: str, argv: list[str], wish: Wish) -> run.Finished:
    options = [part for name, value in wish.env for part in ("--env", f"{name}={value}")]
    options += [part for volume in wish.volumes for part in ("--volume", volume)]
    options += ["--user", wish.user] if wish.user else []
    options += ["--workingdir", wish.workdir] if wish.workdir else []
    command, env = engine.command(["buildah", "run", "--network", "host", *options, container, "--", *argv])
    return run.attach(command, _BUILDAH, env=env)


def _choose(layout: Layout, image: Document, name: str, platform: Platform) -> tuple[str, RunConfig]:
    offered = platforms_of(layout, image)
    if platform not in offered:
        has = ", ".join(map(str, offered))
        raise InputError(f"{name} has no {platform}", detail=f"it has {has}", hint="choose one with --platform")
    manifest = layout.document(offered[platform]).value
    if not isinstance(manifest, Manifest):
        raise InputError(f"{name}: the entry for {platform} is no image")
    config = parse_config(layout.read(manifest.config.digest), name)
    return offered[platform].digest, config.config or RunConfig()


def _command(config: RunConfig, wish: Wish, name: str) -> list[str]:
    """Entrypoint and command as docker combines them: a new entrypoint drops the image's command."""
    if wish.entrypoint is not None:
        argv = [*shlex.split(wish.entrypoint), *wish.command]
    else:
        argv = [*(config.entrypoint or ()), *(wish.command or config.cmd or ())]
    if not argv:
        raise InputError(f"{name} has neither entrypoint nor command", hint="say what to run: -- CMD")
    return argv


def _code(done: run.Finished, program: str, wish: Wish, name: str) -> int:
    """The program's own exit code; raises when it never started."""
    if "failed to start" not in done.stderr:
        return done.returncode if done.returncode >= 0 else _KILLED - done.returncode
    if "no such file or directory" in done.stderr or "executable file not found" in done.stderr:
        raise MissingProgramError(
            f"{name} ({wish.platform}) has no program {program}",
            detail=_first_line(done.stderr),
            hint="its interpreter or loader may be what is missing: `polyarch verify` tells",
        )
    raise StartError(
        f"{name}: {program} cannot be executed as a program of {wish.platform}",
        detail=_first_line(done.stderr),
        hint=f"`polyarch verify {name}` tells whether it is one, and of which platform",
    )


def _first_line(said: str) -> str:
    return said.partition("process exited")[0].strip()
