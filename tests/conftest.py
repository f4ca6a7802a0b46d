"""Helpers live beside the tests that use them; scripts are used as the README uses them."""

import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).parents[1]
sys.path[:0] = [
    str(ROOT / folder) for folder in ("scripts", "tests/integration", "tests/unit/verify", "tests/unit/dockerfile")
]

# A busy machine is no reason to fail: speed is measured in benchmarks, never in tests.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
