"""The benchmarks are scripts beside the package: what they share is imported from their folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
