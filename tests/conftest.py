"""Helpers live beside the tests that use them; scripts are used as the README uses them."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("scripts", "tests/integration", "tests/unit/verify")]
