"""Run one platform of an image on this machine: a working container in polyarch's namespace, gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyarch import run
from polyarch.arch import Platform
from polyarch.build.engine import open_engine
from polyarch.errors import HostError, InputError, MissingProgramError, StartError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout, platforms_of
from polyarch.oci.model import Document, Manifest, RunConfig, parse_config

_KILLED = 128  # plus the signal's number, as in shells
_MISSING = 127
_INSIDE = Path(__file__).with_name("inside.py")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
        container, root = engine.start_container(digest)
        try:
            done = run.attach(
                engine.enter([sys.executable, "-I", "-S", str(_INSIDE), _last_steps(root, argv, config, wish)])
            )
        finally:
            engine.remove_container(container)
    return _code(done, argv[0], wish, name)


def _last_steps(root: Path, argv: Sequence[str], config: RunConfig, wish: Wish) -> str:
    """What `inside.py` is told."""
    env = {"PATH": _PATH} | dict(entry.partition("=")[::2] for entry in config.env or ()) | dict(wish.env)
    if "TERM" in os.environ and sys.stdin.isatty():
        env = {"TERM": os.environ["TERM"]} | env
    return json.dumps(
        {
            "root": str(root),
            "argv": list(argv),
            "env": env,
            "user": wish.user or config.user or "",
            "workdir": wish.workdir or config.working_dir or "",
            "volumes": [_volume(text) for text in wish.volumes],
        }
    )


def _volume(text: str) -> tuple[str, str, bool]:
    """`HOST:CONTAINER[:ro|:rw]`, the host's path made absolute. Raises `InputError`, also when it does not exist."""
    host, _, rest = text.partition(":")
    path, _, options = rest.partition(":")
    words = {word for word in options.split(",") if word}
    if not host or not path.startswith("/") or not words <= {"ro", "rw", "z", "Z"}:
        raise InputError(f"--volume wants HOST:CONTAINER[:ro], not {text!r}", hint="the container's path is absolute")
    if not Path(host).exists():
        raise InputError(f"--volume {text}: {host} does not exist")
    return str(Path(host).resolve()), path, "ro" in words


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
        argv = [*_words(wish.entrypoint), *wish.command]
    else:
        argv = [*(config.entrypoint or ()), *(wish.command or config.cmd or ())]
    if not argv:
        raise InputError(f"{name} has neither entrypoint nor command", hint="say what to run: -- CMD")
    return argv


def _words(entrypoint: str) -> list[str]:
    try:
        return shlex.split(entrypoint)
    except ValueError as error:
        raise InputError(f"--entrypoint {entrypoint!r} cannot be split into words", detail=str(error)) from error


def _code(done: run.Finished, program: str, wish: Wish, name: str) -> int:
    """The program's own exit code; raises when it never started."""
    if not done.stderr:
        return done.returncode if done.returncode >= 0 else _KILLED - done.returncode
    if done.returncode == _MISSING:
        raise MissingProgramError(
            f"{name} ({wish.platform}) has no program {program}",
            detail=done.stderr,
            hint="its interpreter or loader may be what is missing: `polyarch verify` tells",
        )
    raise StartError(
        f"{name}: {program} cannot be executed as a program of {wish.platform}",
        detail=done.stderr,
        hint=f"`polyarch verify {name}` tells whether it is one, and of which platform",
    )
