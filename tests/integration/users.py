"""An ordinary user for tests, with polyarch in a folder that they can read."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polyarch
from polyarch import run
from polyarch.run import Finished

PYTHON = "/usr/bin/python3"  # the distribution's own: ordinary users may not read a pyenv in /root
_TOOLS = ("mypy*", "ruff*", "hypothesis*", "pip*", "setuptools*", "__pycache__", "polyarch", "dockerfile*")


@dataclass(frozen=True)
class User:
    """The user's name, home, and the folder with polyarch and all that it imports."""

    name: str
    home: Path
    packages: Path

    def run(self, argv: Sequence[str], *, check: bool = True) -> Finished:
        """Run as the user, with a clean environment, in the user's home."""
        settings = [f"HOME={self.home}", f"PYTHONPATH={self.packages}", f"USER={self.name}", "PATH=/usr/bin:/bin"]
        command = ["runuser", "-u", self.name, "--", "env", "-i", "-C", str(self.home), *settings, *argv]
        return run.capture(command, check=check)

    def polyarch(self, *args: str, check: bool = True) -> Finished:
        """Run the command line as the user."""
        return self.run([PYTHON, "-m", "polyarch", *args], check=check)


@contextmanager
def ordinary_user(name: str, *, subordinate_ids: bool) -> Iterator[User]:
    """Make the user, and remove user, home, processes and copies afterwards."""
    none = ["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]
    run.capture(["useradd", "--create-home", "--shell", "/bin/sh", *none, name])
    packages = Path(tempfile.mkdtemp(prefix="polyarch-packages-"))
    try:
        for kind in ("uid", "gid") if subordinate_ids else ():
            run.capture(["usermod", f"--add-sub{kind}s", "300000-365535", name])
        _copy_packages(packages)
        run.capture(["chmod", "-R", "a+rX", str(packages)])
        yield User(name, Path("/home") / name, packages)
    finally:
        shutil.rmtree(packages)
        run.capture(["pkill", "-KILL", "-u", name], check=False)
        run.capture(["userdel", "--remove", name], check=False)


def _copy_packages(target: Path) -> None:
    """What this Python imports: a virtual environment may lie where the user cannot read."""
    site = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    ignored = shutil.ignore_patterns(*_TOOLS)
    shutil.copytree(site, target, ignore=ignored, dirs_exist_ok=True)
    source = Path(str(polyarch.__file__)).parent
    shutil.copytree(source, target / "polyarch", ignore=shutil.ignore_patterns("__pycache__"))
