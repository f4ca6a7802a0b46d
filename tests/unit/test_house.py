"""The rules of the house that a machine can check: imports go one way, modules stay short, start-up stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "polyarch"

# Each may import those before it, and itself; nothing imports back up.
LINE = (
    "errors",
    "arch",
    "places",
    "run",
    "report",
    "oci",
    "dockerfile",
    "toolchain",
    "emulation",
    "facts",
    "verify",
    "registry",
    "index",
    "base",
    "nodes",
    "plan",
    "build",
    "deploy",
    "cli",
)
# What only one room may speak.
ONLY = {"subprocess": {"run"}, "httpx": {"registry"}, "typer": {"cli"}, "asyncssh": {"nodes"}, "kr8s": {"nodes"}}
LONGEST_MODULE = 400


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "polyarch"}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_back_up_the_line(path: Path) -> None:
    own = room(path)
    if own in {"__init__", "__main__"}:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "polyarch" and len(parts) > 1 and parts[1] in LINE:
            assert LINE.index(parts[1]) <= LINE.index(own), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_one_room_one_job(path: Path) -> None:
    for name in imports(path):
        allowed = ONLY.get(name.split(".")[0])
        # a type of a module is no use of it
        if allowed and room(path) not in allowed and not (name == "subprocess" and "Popen" in path.read_text()):
            pytest.fail(f"{path} imports {name}")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_say_why_they_exist_and_stay_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert len(text.splitlines()) <= LONGEST_MODULE


def test_help_imports_nothing_heavy() -> None:
    """Start-up under 150 ms is measured in `benchmarks/startup.py`; here is what keeps it so."""
    script = (
        "import sys\nsys.argv = ['polyarch', '--help']\nfrom polyarch.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'httpx', 'asyncssh', 'elftools', 'rich', 'e2b_dockerfile_utils'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "build" in done.stdout
