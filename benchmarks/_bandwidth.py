"""How fast memory is: the triad a ← b + s·c on arrays far larger than the caches."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import torch

LENGTH = 2**26  # numbers of float32 an array: 256 MiB
SCALE = 0.5
BLOCK = 2**15  # numbers: three blocks fit into a core's second cache


class Triad:
    """The plain triad, by whichever of several ways is fastest here.

    Three arrays are counted: b and c are read, a is written. That the processor fetches a before it is
    overwritten (write-allocate) is not counted. An update in place fetches nothing that it would not read
    anyway, so that it can exceed the triad's bandwidth; `in_place` says how fast the simplest such update,
    a ← a + s·c, runs: three arrays again.
    """

    def __init__(self, threads: int, length: int = LENGTH) -> None:
        self.bytes = 3 * 4 * length
        # Pages that were never written are all one page of zeros, which is in the caches.
        self._a, self._b, self._c = (torch.full((length,), float(i)) for i in range(3))
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads
        ways = {"torch.add": self._torch, "NumPy in blocks": self._numpy}
        self.tried = {name: self._gb_per_s(way) for name, way in ways.items()}
        self.name = max(self.tried, key=self.tried.__getitem__)
        self.in_place = self._gb_per_s(lambda: self._a.add_(self._c, alpha=SCALE))
        self._way = ways[self.name]

    def seconds(self) -> float:
        """Run it once, and return how long it took."""
        start = time.perf_counter()
        self._way()
        return time.perf_counter() - start

    def _torch(self) -> None:
        torch.add(self._b, self._c, alpha=SCALE, out=self._a)

    def _numpy(self) -> None:
        """Work on blocks that stay in the caches between the two operations, on all threads."""
        a, b, c = self._a.numpy(), self._b.numpy(), self._c.numpy()
        bounds = np.linspace(0, len(a), self._threads + 1).astype(int)

        def work(first: int, end: int) -> None:
            for i in range(first, end, BLOCK):
                here = slice(i, min(i + BLOCK, end))
                np.multiply(c[here], np.float32(SCALE), out=a[here])
                np.add(a[here], b[here], out=a[here])

        list(self._pool.map(work, bounds[:-1], bounds[1:]))

    def _gb_per_s(self, way: Callable[[], object], repeats: int = 7) -> float:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
        return 1e-9 * self.bytes / median(times[1:])
