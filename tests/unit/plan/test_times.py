"""What a stage should take: as last time, or as the machine's own ratio of emulated to native says."""

from pathlib import Path

import pytest

from polyarch.build import history
from polyarch.plan.model import Strategy
from polyarch.plan.times import Expected, Took, emulation_ratio, expected

NATIVE = Took("/d", "build", "linux/amd64", "native", 10.0)
EMULATED = Took("/d", "build", "linux/arm64", "emulate", 40.0)


def seconds(*took: Took, strategy: Strategy, stage: str = "build", platform: str = "linux/arm64") -> float | None:
    return expected(took, "/d", stage, platform, strategy).seconds


def test_the_last_build_of_the_very_stage_counts() -> None:
    newer = Took("/d", "build", "linux/arm64", "emulate", 30.0)
    assert seconds(NATIVE, EMULATED, newer, strategy=Strategy.EMULATE) == 30.0
    assert seconds(NATIVE, strategy=Strategy.CROSS) == 10.0, "cross is native, whatever the target"


def test_an_emulated_stage_is_expected_by_the_ratio_of_others() -> None:
    other = Took("/d", "web", "linux/amd64", "native", 3.0)
    found = expected((NATIVE, EMULATED, other), "/d", "web", "linux/s390x", Strategy.EMULATE)
    assert found.seconds == 12.0
    assert "times 4.0" in found.basis
    assert emulation_ratio((NATIVE, EMULATED, Took("/d", "build", "linux/s390x", "emulate", 60.0))) == 5.0


def test_what_nobody_knows_is_unknown() -> None:
    assert expected((), "/d", "build", "linux/arm64", Strategy.EMULATE) == Expected()
    assert seconds(NATIVE, strategy=Strategy.EMULATE) is None, "no ratio was measured"
    assert expected((NATIVE,), "/other", "build", "linux/amd64", Strategy.NATIVE) == Expected()


def test_the_records_outlive_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path))
    assert history.load() == ()
    history.note(NATIVE)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"half\n[]\n{"seconds": "x"}\n')
    history.note(EMULATED)
    assert history.load() == (NATIVE, EMULATED)
