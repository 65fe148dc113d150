"""What all tests share: one thread, repeatable random numbers, and the folder of data sets."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is first imported, and inherited by the commands that the tests start: with one
# thread sums have one order, and the workers of pytest-xdist do not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled kernels are kept for this run alone, and not in the cache of the user.
_KERNELS = tempfile.TemporaryDirectory(prefix="thalweg-kernels-", ignore_cleanup_errors=True)
os.environ.setdefault("THALWEG_CACHE", _KERNELS.name)

# The same examples in every run, so that a red test is red for everyone. To look for new ones:
# pytest --hypothesis-profile=explore
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start each test from the same global random state, whichever tests ran before it."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of the data sets that are too large to embed."""
    folder = os.environ.get("THALWEG_DATA")
    if not folder:
        pytest.skip("THALWEG_DATA is not set: it names the folder with mnist/ and fashion_mnist/")
    return Path(folder)
