"""A RUN that would execute a program of the target platform in a stage of the build platform is seen in the plan."""

import pytest
from test_planner import AMD64, ARM64

from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.plan.foreign import warnings
from polyarch.plan.model import Problem

PINNED = "FROM --platform=$BUILDPLATFORM base AS build"


def found(*lines: str) -> tuple[Problem, ...]:
    parsed = parse_dockerfile("\n".join([*lines, "FROM base", "COPY --from=build /x /x", ""]), "Dockerfile")
    return warnings(resolve(parsed, ARM64, AMD64, {}))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["ARG TARGETARCH", "RUN GOARCH=$TARGETARCH go build -o /out/app .", "RUN /out/app --version"],
            "this RUN executes /out/app, which is linux/arm64's: compiled for it in line 3",
        ),
        (
            ["ARG TARGETARCH", "ENV GOARCH=${TARGETARCH}", "WORKDIR /src", "RUN go build -o app . && ./app"],
            "executes ./app, which is linux/arm64's: compiled for it in line 5",
        ),
        (["RUN cross-env gcc -o /usr/local/bin/x x.c", "RUN x"], "executes x, which is linux/arm64's"),
        (["RUN aarch64-linux-gnu-gcc x.c -o x", "RUN echo && ./x"], "executes ./x"),
        (["COPY --from=tools:1 /usr/bin/tool /usr/bin/", "RUN tool"], "copied from the linux/arm64 image tools:1"),
        (["COPY --from=tools:1 /opt/tools /opt/tools", "RUN /opt/tools/bin/a b"], "executes /opt/tools/bin/a"),
    ],
)
def test_it_is_named_with_the_line_where_the_program_came_from(lines: list[str], said: str) -> None:
    (warning,) = found(PINNED, *lines)
    assert said in warning.message
    assert warning.line == len(lines) + 1
    assert warning.hint


def test_what_comes_from_a_stage_of_the_target_is_foreign() -> None:
    (warning,) = found("FROM base AS made", "RUN x", PINNED, "COPY --from=made /bin/app /usr/bin/app", "RUN app")
    assert "copied from stage made, which is linux/arm64 in line 4" in warning.message
    assert "pin stage made" in warning.hint


@pytest.mark.parametrize(
    "lines",
    [
        [PINNED, "RUN go build -o /app . && /app"],
        [PINNED, "RUN cross-env gcc -o app x.c && cross-verify app"],
        [PINNED, "COPY tool /usr/bin/", "RUN tool"],
        ["FROM --platform=$BUILDPLATFORM base AS made", "RUN x", PINNED, "COPY --from=made /t /bin/t", "RUN t"],
        ["FROM base AS build", "ARG TARGETARCH", "RUN GOARCH=$TARGETARCH go build -o /app . && /app"],
        [PINNED, "RUN this is (beyond) the reader"],
    ],
)
def test_what_runs_is_not_warned_of(lines: list[str]) -> None:
    assert found(*lines) == ()


def test_the_build_platform_itself_has_no_foreign_programs() -> None:
    parsed = parse_dockerfile(f"{PINNED}\nRUN cross-env cc -o /x x.c && /x\n", "Dockerfile")
    assert warnings(resolve(parsed, AMD64, AMD64, {})) == ()
