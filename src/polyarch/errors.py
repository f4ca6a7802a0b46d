"""The one family of errors that a user can meet.

Every error says what was wrong (`message`), where (`detail`), and what to do next (`hint`), and carries the exit code
of the process. `docs/reference.md` documents the codes; only `cli/main.py` turns an error into output and an exit.

    1  a build, run or copy failed         4  this machine lacks what the work needs
    2  the input is wrong                  5  a registry failed after it had answered
    3  the proof found violations        130  interrupted

`polyarch run` exits with the code of the program that it ran, and as shells do with 126 when that cannot be executed
and 127 when there is no such program.
"""

from __future__ import annotations


class PolyarchError(Exception):
    """What a user caused or must know of; never a bug in polyarch itself."""

    exit_code = 1

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def as_dict(self) -> dict[str, str | int]:
        """The error as `--json` prints it."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "detail": self.detail,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class BuildError(PolyarchError):
    """A build, a run or a copy was started and failed."""

    exit_code = 1


class InputError(PolyarchError):
    """An argument, a file or an address given by the user is wrong."""

    exit_code = 2


class ProofError(PolyarchError):
    """An image is not what it says."""

    exit_code = 3


class HostError(PolyarchError):
    """The machine lacks a tool, a kernel feature or a right that the work needs."""

    exit_code = 4


class NodeError(HostError):
    """A node cannot be reached, is lost, or lacks what the work needs; another one may do it."""


class RegistryError(PolyarchError):
    """A registry answered and then refused or failed."""

    exit_code = 5


class StartError(PolyarchError):
    """A program of an image could not be started (exit codes as in shells, POSIX XCU 2.8.2)."""

    exit_code = 126


class MissingProgramError(StartError):
    """A program that an image should run is not in it."""

    exit_code = 127


class StoppedError(PolyarchError):
    """The user ended the command (SIGINT, SIGTERM or SIGHUP)."""

    exit_code = 130
