"""Which stages the plan would pin, and that the patch is the user's own file but for what pins them."""

import subprocess
from pathlib import Path

import pytest
from dockerfile_shapes import INSTRUCTIONS
from hypothesis import given
from hypothesis import strategies as st
from test_planner import AMD64, ARM64, base, facts

from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.model import Instruction
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.plan.commands import commands, script
from polyarch.plan.model import PinPatch, Strategy
from polyarch.plan.pin import pinnable
from polyarch.plan.planner import Wishes, plan

EMULATED = Wishes(everywhere=Strategy.EMULATE)
SHAPES = tuple(text for text in INSTRUCTIONS if "ONBUILD" not in text.upper() and "--from=0" not in text)
FINAL = "FROM base\nRUN apt-get install -y thing\n"


def found(text: str, wishes: Wishes = EMULATED) -> PinPatch:
    parsed = parse_dockerfile(text, "Dockerfile")
    graphs = {p: resolve(parsed, p, AMD64, {}) for p in (AMD64, ARM64)}
    bases = {name: base(AMD64, ARM64) for graph in graphs.values() for name in graph.images}
    made = plan("Dockerfile", graphs, bases, facts((ARM64,)), wishes, graphs[AMD64])
    return pinnable(made, parsed, graphs, bases)


def two(taken: str, *lines: str) -> str:
    return "\n".join(["FROM base AS build", *lines, "FROM base", "RUN x", f"COPY --from=build {taken} /there", ""])


@pytest.mark.parametrize(
    ("taken", "lines", "confidence"),
    [
        ("/out/app", ["ENV CGO_ENABLED=0", "RUN go mod download", "RUN go build -o /out/app ."], "certain"),
        ("/usr/local/bin/app", ["RUN CGO_ENABLED=0 go build -o /usr/local/bin/app ./cmd"], "certain"),
        ("/app", ["RUN apt-get update && apt-get install -y git && go build -o /app ."], "likely"),
        ("/src/dist", ["RUN npm ci", "RUN npm run build"], "likely"),
        ("/src/build/ /src/main.js", ["RUN corepack enable && yarn install --frozen-lockfile && yarn build"], "likely"),
        ("/src/target/*.jar", ["RUN ./mvnw -B package"], "likely"),
        ("/hello.jar", ["RUN mkdir c && javac -d c *.java && jar --create --file /hello.jar -C c ."], "certain"),
        ("/site", ["RUN pip install mkdocs && mkdocs build -d /site"], "certain"),
        ("/site/public", ["RUN hugo --minify"], "certain"),
        ("/out", ["RUN mkdir /out && for n in a b; do echo $n > /out/$n; done"], "certain"),
        ("/tool", ["ARG TARGETARCH", "RUN curl -fL https://x/$TARGETARCH.tgz | tar -xz -C /tool"], "likely"),
        ("/out", ['RUN ["cp", "-r", "/src", "/out"]'], "certain"),
        ("/out", ["RUN <<EOF", "mkdir /out", "echo a > /out/a", "EOF"], "certain"),
    ],
)
def test_what_is_the_same_everywhere_can_be_pinned(taken: str, lines: list[str], confidence: str) -> None:
    (pin,) = found(two(taken, *lines)).pins
    assert (pin.stage, pin.line, pin.confidence) == ("build", 1, confidence)


@pytest.mark.parametrize(
    ("taken", "lines"),
    [
        ("/app", ["RUN make"]),
        ("/app", ["RUN gcc -o /app main.c"]),
        ("/app", ["RUN ./configure && echo"]),
        ("/app", ["RUN apk add build-base && go build -o /app ."]),
        ("/app", ["ENV CGO_ENABLED=1", "RUN go build -o /app ."]),
        ("/app", ["ENV GOARCH=amd64", "RUN go build -o /app ."]),
        ("/go/bin/app", ["RUN go install ./cmd/app"]),
        ("/app", ["RUN go run ./generate && go build -o /app ."]),
        ("/src/node_modules", ["RUN npm ci"]),
        ("/src", ["RUN npm ci && npm run build"]),
        ("/src/dist", ["RUN npm ci && uname -m > dist/machine"]),
        ("/src/target/classes", ["RUN mvn package"]),
        ("/usr/bin/git", ["RUN apt-get install -y git"]),
        ("/out", ["RUN mkdir /out && cp /usr/bin/git /out"]),
        ("/out", ["RUN sh /build.sh"]),
        ("/out", ["RUN pip install --target /out flask"]),
        ("/out", ["RUN echo $(dpkg --print-architecture) > /out"]),
        ("/out", ["RUN echo `uname -m` > /out"]),
        ("/out", ["RUN $TOOL > /out"]),
        ("/out", ["RUN . ./settings && echo $A > /out"]),
        ("/out", ["RUN grep -c processor /proc/cpuinfo > /out"]),
        ("/out", ["RUN find / -name x -exec tool {} +"]),
        ("/out", ['SHELL ["/bin/tool"]', "RUN echo > /out"]),
        ("/out", ["COPY --from=elsewhere /x /x", "RUN echo > /out"]),
        ("/out", ["RUN <<EOF", "#!/usr/bin/env python3", "print()", "EOF"]),
    ],
)
def test_what_is_not_known_to_be_is_left_alone(taken: str, lines: list[str]) -> None:
    assert found(two(taken, *lines)) == PinPatch()


def test_the_patch_tells_go_its_target_and_keeps_the_rest(tmp_path: Path) -> None:
    text = (
        "# syntax=x\n\nfrom  golang:1 as build  # not a comment\n".replace("  # not a comment", "")
        + "RUN CGO_ENABLED=0 \\\n    go build -o /app . && \\\n    go vet\n"
        + "FROM base\nRUN x\nCOPY --from=build /app /app\n"
    )
    diff = found(text).diff
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["patch", "-p0"], input=diff, text=True, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "Dockerfile").read_text() == (
        "# syntax=x\n\nfrom  --platform=$BUILDPLATFORM golang:1 as build\nARG TARGETOS TARGETARCH\n"
        "RUN CGO_ENABLED=0 \\\n    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /app . && \\\n    go vet\n"
        "FROM base\nRUN x\nCOPY --from=build /app /app\n"
    )
    assert not found((tmp_path / "Dockerfile").read_text()).pins


def test_c_goes_through_the_toolchain(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "offering" / "Dockerfile"
    patch = found(example.read_text())
    assert [(pin.stage, pin.confidence) for pin in patch.pins] == [("build", "likely")]
    added = [line[1:] for line in patch.diff.splitlines() if line[:1] == "+" and line[:3] != "+++"]
    assert added == [
        "FROM --platform=$BUILDPLATFORM debian:trixie AS build",
        "COPY --from=polyarch-toolchain / /",
        "ARG TARGETPLATFORM",
        "    cross-apt install -y --no-install-recommends gcc libc6-dev make libulfius-dev libmariadb-dev"
        " libjansson-dev && \\",
        "RUN cross-env make && cross-env make install DESTDIR=/out",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["FROM ubuntu AS build", "RUN apt-get install -y gcc", "RUN make"],
        ["FROM debian AS build", "RUN apt-get install -y gcc", "RUN make && make check"],
        ["FROM debian AS build", "RUN apt-get install -y gcc", "RUN make CC=gcc"],
        ["FROM debian AS build", "RUN apt-get install -y gcc", "RUN ./configure && make"],
        ["FROM debian AS build", "RUN make"],
        ["FROM debian AS build", "RUN apt-get install -y gcc", 'RUN ["make"]'],
        ["FROM debian AS build", "RUN if true; then apt-get install -y gcc; fi", "RUN make"],
    ],
)
def test_c_that_the_patch_would_not_reach_is_left_alone(lines: list[str]) -> None:
    assert not found("\n".join([*lines, "FROM base", "RUN x", "COPY --from=build /out /out", ""])).pins


def test_a_file_without_a_last_newline_is_patched(tmp_path: Path) -> None:
    text = "FROM base AS a\nRUN go build -o /x\nFROM base\nRUN x\nCOPY --from=a /x /x"
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["patch", "-p0"], input=found(text).diff, text=True, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "Dockerfile").read_text().endswith("COPY --from=a /x /x")


def test_a_build_that_knows_its_target_is_only_pinned() -> None:
    lines = ("ARG TARGETARCH", "ENV CGO_ENABLED=0", "RUN GOARCH=$TARGETARCH go build -o /app .")
    diff = found(two("/app", *lines)).diff
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in {"---", "+++"}]
    assert changed == ["-FROM base AS build", "+FROM --platform=$BUILDPLATFORM base AS build"]


def test_a_stage_that_reads_what_stays_foreign_stays_foreign() -> None:
    deps = "FROM base AS deps\nRUN pip install --target /lib x\n"
    site = "FROM base AS site\nCOPY --from=deps /lib /lib\nRUN mkdocs build -d /out\n"
    assert not found(f"{deps}{site}{FINAL}COPY --from=site /out /out\n").pins


def test_stages_that_feed_each_other_are_pinned_together() -> None:
    text = "FROM base AS text\nRUN echo > /t\nFROM base AS site\nCOPY --from=text /t /t\nRUN hugo -d /out\n"
    assert [pin.stage for pin in found(f"{text}{FINAL}COPY --from=site /out /out\n").pins] == ["text", "site"]


def test_where_a_graft_is_tried_only_compilers_are_named() -> None:
    assert found(two("/app", "RUN go build -o /app ."), Wishes()).pins
    assert not found(two("/out", "RUN echo > /out"), Wishes()).pins


def test_what_the_image_stands_on_is_never_pinned() -> None:
    assert not found("FROM base AS below\nRUN echo > /x\nFROM below\nRUN echo\nCOPY --from=below /x /y\n").pins


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    script(text)
    commands(Instruction("RUN", (text,), (), False, (), 1, 1, text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=1 b c && d 2>/dev/null || e >x", (("b", "c"), ("d",), ("e",))),
        ("if test -f x; then y; fi", (("test", "-f", "x"), ("y",))),
        ("x $(y z)", (("y", "z"), ("x", "SUBSTITUTED"))),
        ("for a in b; do c; done", (("c",),)),
        ("f() { x; }", None),
        ("x $((1 + 2))", None),
        ("echo 'open", None),
    ],
)
def test_commands_of_a_script(text: str, told: tuple[tuple[str, ...], ...] | None) -> None:
    assert script(text) == told


def test_the_example_becomes_what_it_is(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "go-hello"
    text = (example / "Dockerfile.before").read_text().replace("debian:trixie", "base")
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["patch", "-p0"], input=found(text).diff, text=True, cwd=tmp_path, check=True, capture_output=True)
    patched, wanted = (tmp_path / "Dockerfile").read_text(), (example / "Dockerfile").read_text()
    after = "FROM --platform"
    assert patched.partition(after)[2].replace("base", "debian:trixie") == wanted.partition(after)[2]


@pytest.mark.parametrize("first", SHAPES)
def test_whatever_the_patch_makes_can_be_read_and_needs_no_other(first: str, tmp_path: Path) -> None:
    """Each shape as a stage that others copy from, with a compiler's commands after it."""
    text = f"FROM debian:trixie\n{first}\nFROM debian:trixie AS c\nRUN apt-get install -y gcc\nRUN make\n"
    text += "FROM debian\nRUN x\nCOPY --from=0 /out/app /app\nCOPY --from=c /out/app /app\n"
    diff = found(text).diff
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["patch", "-p0"], input=diff, text=True, cwd=tmp_path, check=True, capture_output=True)
    patched = (tmp_path / "Dockerfile").read_text()
    assert len(parse_dockerfile(patched, "Dockerfile").stages) == len(parse_dockerfile(text, "Dockerfile").stages)
    assert found(patched) == PinPatch()
