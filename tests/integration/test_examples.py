"""The examples, built for five platforms on this machine, proved, and run on each.

The stages of those that compile or bundle are pinned to the build platform, so nothing is emulated until the programs
run. They share a store: steps that they have in common are built once.
"""

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bases import PYTHON, make_bases
from harness import Polyarch, dockerfile
from test_main_job import free_port, wait_until

from conftest import EXAMPLE, FIVE, copy_store
from polyarch.arch import ARCHES, parse_platform

pytestmark = pytest.mark.slow

ALL = ("--platform", ",".join(FIVE))
# what each program says on arm64, where {} is what its language calls a platform
SAID = {
    "go-hello": ("hello from Go on {}", lambda p: str(p)),
    "c-cross": ("zlib 1.3.1 on {}: squeezed", lambda p: ARCHES[p].uname),
    "rust-hello": ("hello from Rust on {}", lambda p: ARCHES[p].uname.removesuffix("le").replace("ppc", "powerpc")),
    "java-hello": ("hello from Java 21 on {}", lambda p: ARCHES[p].uname.replace("x86_64", "amd64")),
}

# The first lines are those of go-hello, so that they are built once.
POLYGLOT = (
    "FROM --platform=$BUILDPLATFORM debian:trixie AS build",
    "RUN apt-get update && apt-get install -y --no-install-recommends golang-go",
    "RUN apt-get install -y --no-install-recommends cmake make meson pkgconf",
    "COPY --from=polyarch-toolchain / /",
    "ARG TARGETPLATFORM",
    "RUN cross-apt install gcc g++ libc6-dev zlib1g-dev",
    "WORKDIR /src",
    "COPY . .",
    "RUN cd cgo && cross-env go build -o /out/cgo .",
    "RUN cross-env cmake -B by-cmake && cmake --build by-cmake && mv by-cmake/program /out/cmake",
    "RUN cross-env sh -c 'meson setup --cross-file $MESON_CROSS_FILE by-meson' && meson compile -C by-meson && "
    "mv by-meson/program /out/meson",
    "RUN cross-verify /out/*",
    "FROM debian:trixie",
    "COPY --from=build /out /out",
    """CMD ["sh", "-c", "for p in /out/*; do $p $(basename $p); done"]""",
)
PROGRAMS = {
    "program.cc": """
#include <iostream>
#include <string>
#include <sys/utsname.h>
#include <zlib.h>
int main(int, char **argv) {
    utsname system;
    uname(&system);
    std::cout << std::string(argv[1]) << " zlib " << zlibVersion() << " " << system.machine << std::endl;
}
""",
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.20)
project(program CXX)
find_package(ZLIB REQUIRED)
add_executable(program program.cc)
target_link_libraries(program ZLIB::ZLIB)
""",
    "meson.build": """
project('program', 'cpp')
executable('program', 'program.cc', dependencies: dependency('zlib'))
""",
    "cgo/go.mod": "module program\ngo 1.21\n",
    "cgo/main.go": """
package main
// #cgo pkg-config: zlib
// #include <sys/utsname.h>
// #include <zlib.h>
// static const char *machine(void) { static struct utsname s; uname(&s); return s.machine; }
import "C"
import ("fmt"; "os")
func main() { fmt.Println(os.Args[1], "zlib", C.GoString(C.zlibVersion()), C.GoString(C.machine())) }
""",
}


@pytest.fixture(scope="module")
def store(kept: Polyarch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Polyarch]:
    folder = tmp_path_factory.mktemp("examples")
    yield copy_store(kept, folder / "store")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("example", SAID)
def test_the_example_says_on_each_platform_where_it_runs(store: Polyarch, example: str) -> None:
    plan = store.json("plan", EXAMPLE.parent / example, *ALL)
    assert {stage["strategy"] for entry in plan["platforms"] for stage in entry["stages"]} == {"cross", "native"}
    store.run("build", EXAMPLE.parent / example, "-t", example, *ALL)
    assert store.json("verify", example)["ok"]
    text, name = SAID[example]
    for platform in FIVE:
        said = store.run("run", example, "--platform", platform).stdout.strip()
        assert said == text.format(name(parse_platform(platform)))


def test_a_site_that_node_bundled_is_served_on_each_platform(store: Polyarch) -> None:
    store.run("build", EXAMPLE.parent / "node-site", "-t", "node-site", *ALL)
    assert store.json("verify", "node-site")["ok"]
    show = ("--", "cat", "/srv/www/index.html")
    (page,) = {store.run("run", "node-site", "--platform", platform, *show).stdout for platform in FIVE}
    assert '<script type="module" src="main.' in page
    port = free_port()
    serve = ("--", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/srv/www")
    process = store.start("run", "node-site", "--platform", "linux/riscv64", *serve)
    try:
        wait_until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).status == 200, process)
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read().decode() == page
    finally:
        process.terminate()
        process.wait()


def test_python_alone_is_built_once_and_grafted_onto_the_other_platforms(kept: Polyarch, tmp_path: Path) -> None:
    make_bases(FIVE, kept.env, *PYTHON)
    store = copy_store(kept, tmp_path / "store")
    certificates = ("--secret", "id=ca,src=/etc/ssl/certs/ca-certificates.crt")
    made = store.json("build", EXAMPLE.parent / "python-web", "-t", "python-web", *ALL, *certificates)["images"]
    assert [image["grafted"] for image in made] == [False, True, True, True, True]
    assert store.json("verify", "python-web")["ok"]
    ask = ("--entrypoint", "python3", "--", "-c", "import bottle, platform; print(bottle.__name__, platform.machine())")
    for platform in FIVE:
        said = store.run("run", "python-web", "--platform", platform, *ask).stdout
        assert said == f"bottle {ARCHES[parse_platform(platform)].uname}\n"


def test_the_toolchain_serves_cplusplus_cmake_meson_and_cgo(store: Polyarch, tmp_path: Path) -> None:
    """C alone and Rust are in the examples. Each program links zlib of its platform."""
    context = dockerfile(tmp_path / "c", *POLYGLOT)
    (context / "cgo").mkdir()
    for name, text in PROGRAMS.items():
        (context / name).write_text(text)
    platforms = ("linux/arm64", "linux/s390x")
    store.run("build", context, "-t", "polyglot", "--platform", ",".join(platforms))
    assert store.json("verify", "polyglot")["ok"]
    for platform in platforms:
        said = store.run("run", "polyglot", "--platform", platform).stdout.splitlines()
        uname = ARCHES[parse_platform(platform)].uname
        assert said == [f"cgo zlib 1.3.1 {uname}", f"cmake zlib 1.3.1 {uname}", f"meson zlib 1.3.1 {uname}"]
