"""The entry point: collects the commands, and is the one place that catches errors and exits.

Rooms are imported inside the commands, so that `polyarch --help` starts at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import types
from typing import Annotated

import typer
from typer.exceptions import TyperException

from polyarch import __version__
from polyarch.cli import (
    accelerate,
    base,
    build,
    doctor,
    emulation,
    images,
    index,
    inspect,
    node,
    plan,
    run,
    toolchain,
    verify,
)
from polyarch.errors import HostError, InputError, PolyarchError, StoppedError
from polyarch.report import colour_wanted, printable

_ROOM = "is the disk full, or may the folder not be written? POLYARCH_HOME and POLYARCH_CACHE name others"

app = typer.Typer(
    name="polyarch",
    help="Build one image for every architecture, prove it, ship it, run it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(doctor.doctor)
app.add_typer(emulation.app)
app.add_typer(accelerate.app)
app.command()(base.base)
app.add_typer(toolchain.app)
app.command()(plan.plan)
app.command()(build.build)
app.command()(run.run)
app.command()(images.push)
app.command()(images.pull)
app.command()(images.images)
app.command()(images.rmi)
app.command()(images.prune)
app.command()(verify.verify)
app.command()(inspect.inspect)
app.add_typer(index.app)
app.add_typer(node.app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"polyarch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Build one image for every architecture, prove it, ship it, run it."""


def main() -> None:
    """Run the command line; exit codes are those of `polyarch.errors`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see `polyarch.cli`
    os.umask(0o022)  # what a build writes belongs to the image: the user's umask must not reach it
    try:
        code = app(args=_as_podman_writes_it(sys.argv[1:]), standalone_mode=False)
        if code == StoppedError.exit_code:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except PolyarchError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except TyperException as error:
        _misused(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _tell(StoppedError("interrupted: what was finished is kept, nothing half-made is left"))
        sys.exit(StoppedError.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing is left to say
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        told = HostError(f"{error.filename or 'the system'}: {error.strerror or error}", hint=_ROOM)
        _tell(told)
        sys.exit(told.exit_code)


def _as_podman_writes_it(arguments: list[str]) -> list[str]:
    """`--tls-verify=false` as podman and skopeo have it, beside the flag pair of our command line library."""
    spelled = {"--tls-verify=false": "--no-tls-verify", "--tls-verify=true": "--tls-verify"}
    own = _own(arguments)
    return [spelled.get(argument, argument) for argument in own] + arguments[len(own) :]


def _tell(error: PolyarchError) -> None:
    """Print an error to stderr: as JSON where the user asked for JSON, else message, detail and hint."""
    if _as_json():
        print(json.dumps(error.as_dict()), file=sys.stderr)
        return
    if isinstance(error, StoppedError):
        print(error.message, file=sys.stderr)
        return
    red, plain = ("\x1b[31m", "\x1b[0m") if colour_wanted(sys.stderr) else ("", "")
    print(f"{red}error:{plain} {printable(error.message)}", file=sys.stderr)
    for line in error.detail.split("\n") if error.detail else ():
        print(f"  {printable(line)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {printable(error.hint)}", file=sys.stderr)


def _misused(error: TyperException) -> None:
    """A wrong option or argument: in the words of our command line library, or as JSON."""
    if _as_json():
        _tell(InputError(error.format_message(), hint="see --help of the command"))
    elif isinstance(show := getattr(error, "show", None), types.MethodType):
        show()


def _as_json() -> bool:
    return "--json" in _own(sys.argv[1:])


def _own(arguments: list[str]) -> list[str]:
    """What is said to polyarch: behind `--` comes what is said to the program that it runs."""
    return arguments[: arguments.index("--") if "--" in arguments else None]
