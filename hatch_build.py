"""Compile the dispatcher into the wheel, so that machines without a compiler accelerate, too.

Where it cannot be compiled the wheel has its source, and `emulation/dispatcher/program.py` compiles it on first use.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/polyarch/emulation/dispatcher")
HOSTS = {"x86_64": "amd64", "aarch64": "arm64"}


class Dispatcher(BuildHookInterface[Any]):
    """Adds `dispatcher-<architecture>` to a wheel and names the platform that it is for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the files are collected; an editable install keeps its tree as it is."""
        architecture, compiler = HOSTS.get(platform.machine()), shutil.which("cc")
        if version == "editable" or architecture is None or compiler is None or sys.platform != "linux":
            return
        program = Path(self.root) / FOLDER / f"dispatcher-{architecture}"
        done = subprocess.run(_command(Path(self.root), compiler, architecture, program), check=False)
        if done.returncode == 0:
            build_data["artifacts"].append(str(FOLDER / program.name))
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """The tree is left as it was."""
        for program in (Path(self.root) / FOLDER).glob("dispatcher-*"):
            program.unlink()


def _command(root: Path, compiler: str, architecture: str, output: Path) -> list[str]:
    """`program.command`, without importing polyarch's dependencies."""
    sys.path.insert(0, str(root / "src"))
    try:
        spec = importlib.util.spec_from_file_location("program", root / FOLDER / "program.py")
        if spec is None or spec.loader is None:
            raise ImportError(str(FOLDER))
        module: types.ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return list(module.command(compiler, architecture, output))
