from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.errors import RegistryError
from polyarch.registry import retry

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-3", None), ("7", 7.0), (" 7 ", 7.0), ("99999999", 30.0),
        ("Sun, 01 Mar 2026 12:00:20 GMT", 20.0), ("Sun, 01 Mar 2026 13:00:00 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_capped(value: str | None, seconds: float | None) -> None:
    assert retry.retry_after(value, NOW) == seconds


@given(st.text())
def test_retry_after_takes_any_text(text: str) -> None:
    waited = retry.retry_after(text, NOW)
    assert waited is None or 0 <= waited <= 30


@given(st.integers(1, 50))
def test_backoff_grows_and_is_bounded(attempt: int) -> None:
    assert 0 < retry.backoff(attempt) <= 30 * 1.25


def test_parallel_jobs_are_bounded() -> None:
    running, most = 0, 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    asyncio.run(retry.in_parallel((job() for _ in range(20)), at_once=3))
    assert most == 3


def test_the_first_failure_ends_the_rest_and_is_raised_as_itself() -> None:
    finished = []

    async def fails() -> None:
        raise RegistryError("no")

    async def lasts() -> None:
        await asyncio.sleep(5)
        finished.append(1)

    with pytest.raises(RegistryError, match="no"):
        asyncio.run(retry.in_parallel([lasts(), fails(), lasts(), lasts()], at_once=2))
    assert not finished
