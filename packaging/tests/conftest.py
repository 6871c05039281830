"""Tests of what `make binary` and `make packages` made; `make test-packages` runs them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
