"""The table of methods in the documentation is made from the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_table_of_methods_is_current() -> None:
    done = subprocess.run([sys.executable, DOCS / "method_table.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/method_table.py"
