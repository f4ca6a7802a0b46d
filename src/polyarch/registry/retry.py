"""When to ask again, and how long to wait before (RFC 9110 section 10.2.3 for `Retry-After`)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

ATTEMPTS = 5
# Too early, too many, and what a proxy answers while the registry behind it restarts.
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST = 0.5  # seconds
_LONGEST = 30.0  # seconds


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date), capped; None when it asks nothing."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max((when - (now or datetime.now(UTC))).total_seconds(), 0.0), _LONGEST)


def backoff(attempt: int) -> float:
    """Seconds to wait after the `attempt`th failure (from 1): doubling, with jitter so that parallel calls spread."""
    return float(min(_FIRST * 2 ** (attempt - 1), _LONGEST) * random.uniform(0.75, 1.25))  # noqa: S311 - no secret


async def in_parallel(jobs: Iterable[Coroutine[Any, Any, None]], at_once: int) -> None:
    """Run all jobs, at most `at_once` together; the first failure cancels the rest and is raised as itself."""
    gate = asyncio.Semaphore(at_once)

    async def one(job: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await job

    waiting = list(jobs)
    try:
        async with asyncio.TaskGroup() as group:
            for job in waiting:
                group.create_task(one(job))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    finally:
        for job in waiting:  # those that never had their turn
            job.close()
