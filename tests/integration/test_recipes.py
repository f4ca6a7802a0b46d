"""The recipes of docs/verify.md for GitHub Actions and GitLab CI: their own lines, run by a shell as a runner does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from harness import Polyarch, dockerfile
from registry_server import PASSWORD, USER, RegistryServer, registry_server

DOCS = Path(__file__).parents[2] / "docs" / "verify.md"


def recipe(word: str) -> dict[str, Any]:
    """The YAML block that has `word` as a key."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return next(found for block in blocks if word in (found := yaml.safe_load(block)))


def runner(polyarch: Polyarch, server: RegistryServer, work: Path) -> dict[str, str]:
    """What a job finds around it: `polyarch` in PATH, a home of its own, trust in the registry's CA."""
    (work / "bin").mkdir(parents=True)
    for name, command in (("polyarch", f"{sys.executable} -m polyarch"), ("pip", "true"), ("pipx", "true")):
        path = work / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
    own = {"HOME": str(work), "PATH": f"{work}/bin:{os.environ['PATH']}", "SSL_CERT_FILE": str(server.authority)}
    return polyarch.env | own


def shell(lines: list[str], env: dict[str, str], work: Path, code: int) -> None:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)], cwd=work, env=env, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr


@pytest.fixture
def pushed(empty: Polyarch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry with TLS and a password that holds one right image, and one whose program is another machine's."""
    with registry_server(tmp_path / "registry", auth=True, tls=True) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file()))
        subprocess.run(
            ["cc", "-static", "-o", tmp_path / "true", "-xc", "-"], input=b"int main(){return 0;}", check=True
        )
        static = (tmp_path / "true").read_bytes()
        folder = dockerfile(tmp_path / "app", "FROM scratch", "COPY true /bin/app", 'CMD ["/bin/app"]')
        for tag, machine in (("right", 62), ("wrong", 183)):
            head = bytearray(static)
            head[18] = machine  # e_machine
            (folder / "true").write_bytes(head)
            (folder / "true").chmod(0o755)
            layout = tmp_path / tag
            subprocess.run(["buildah", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver",
                            "vfs", "build", "--quiet", "--isolation", "chroot", "--platform", "linux/amd64", "-t", tag,
                            folder], check=True, capture_output=True)  # fmt: skip
            subprocess.run(["buildah", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver",
                            "vfs", "push", "--quiet", tag, f"oci:{layout}:{tag}"], check=True)  # fmt: skip
            subprocess.run(["skopeo", "copy", "--quiet", "--dest-authfile", server.root / "auth.json",
                            f"oci:{layout}:{tag}", f"docker://{server.host}/team/app:{tag}"], check=True)  # fmt: skip
        monkeypatch.delenv("REGISTRY_AUTH_FILE")
        yield server


@pytest.mark.parametrize(("tag", "code"), [("right", 0), ("wrong", 3)])
def test_the_github_recipe_leaves_alerts_and_the_exit_code(
    empty: Polyarch, tmp_path: Path, pushed: RegistryServer, tag: str, code: int
) -> None:
    work = tmp_path / "work"
    env = runner(empty, pushed, work) | {"REGISTRY_AUTH_FILE": str(pushed.root / "auth.json")}
    values = {"${{ vars.IMAGE }}": f"{pushed.host}/team/app", "${{ github.sha }}": tag}
    lines = [step["run"] for step in recipe("jobs")["jobs"]["verify"]["steps"] if "run" in step]
    for name, value in values.items():
        lines = [line.replace(name, value) for line in lines]
    shell(lines, env, work, code)
    run = json.loads((work / "polyarch.sarif").read_text())["runs"][0]
    found = {result["ruleId"] for result in run["results"]}
    assert ("elf-machine" in found) == (tag == "wrong")


def test_the_gitlab_recipe_logs_in_and_leaves_a_report(empty: Polyarch, tmp_path: Path, pushed: RegistryServer) -> None:
    work = tmp_path / "work"
    job = recipe("proof")["proof"]
    env = runner(empty, pushed, work) | {
        "CI_PROJECT_DIR": str(work), "CI_REGISTRY": pushed.host, "CI_REGISTRY_USER": USER,
        "CI_REGISTRY_PASSWORD": PASSWORD, "CI_REGISTRY_IMAGE": f"{pushed.host}/team/app",
        "CI_COMMIT_SHORT_SHA": "wrong", "POLYARCH_CACHE": str(work / ".polyarch"), "POLYARCH_URL": ".",
    }  # fmt: skip
    shell([*job["before_script"], *job["script"]], env, work, 3)
    report = ElementTree.parse(work / job["artifacts"]["reports"]["junit"]).getroot()
    assert int(report.get("failures") or 0) + sum(int(s.get("failures") or 0) for s in report) > 0
