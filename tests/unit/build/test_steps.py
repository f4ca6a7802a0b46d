"""buildah's output, told as steps of the user's Dockerfile."""

from polyarch.build.steps import is_cached, read_image, read_step
from polyarch.dockerfile.parse import parse_dockerfile

FILE = parse_dockerfile(
    "ARG X=1\nFROM debian AS build\nRUN a \\\n  && b\n\nCOPY x /\nFROM debian\nUSER 1\nRUN c\n", "Dockerfile"
)


def test_a_step_is_the_instruction_with_its_line() -> None:
    step = read_step(FILE, "[1/2] STEP 2/3: RUN a   && b")
    assert step is not None
    assert (step.stage, step.step, step.steps, step.line) == (0, 2, 3, 3)
    assert step.text == "RUN a && b"


def test_a_from_is_told_as_the_user_wrote_it() -> None:
    step = read_step(FILE, "[2/2] STEP 1/3: FROM --platform=linux/arm64 localhost/polyarch/base:abc")
    assert step is not None
    assert (step.text, step.line) == ("FROM debian", 7)


def test_steps_that_a_base_adds_do_not_shift_the_lines() -> None:
    step = read_step(FILE, "[2/2] STEP 3/4: USER 1")
    assert step is not None
    assert step.line == 8


def test_other_lines_are_no_steps() -> None:
    assert read_step(FILE, "STEP by step") is None
    assert read_step(FILE, "+ echo STEP 1/2: x") is None


def test_a_stage_that_is_not_in_the_file_is_still_told() -> None:
    step = read_step(FILE, "[9/9] STEP 2/2: RUN z")
    assert step is not None
    assert step.line == 0


def test_cache_hits_and_finished_steps_are_recognised() -> None:
    assert is_cached("--> Using cache 28436e3076fdf66154f")
    assert read_image("--> Using cache 28436e3076fdf66154f") == "28436e3076fdf66154f"
    assert read_image("[1/2] --> 28436e3076f") == "28436e3076f"
    assert read_image("--> elsewhere") == ""
