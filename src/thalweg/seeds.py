"""One root seed, from which every stream of random numbers is derived by name.

A stream is the answer to a question, "in what order are the examples of epoch 3 of seed 1?", and
never depends on what was drawn before. So a run resumes anywhere without replay, and every recipe
sees the same initial weights and the same order. Only what NumPy promises to keep for ever is used
(the raw output of PCG64), so the values are the same in every version; the tests pin them.
"""

import hashlib
import operator
from typing import Final

import numpy as np
from numpy.typing import NDArray

PURPOSES: Final = ("data", "initial weights", "order", "forward", "bootstrap")


def derive(root: int, purpose: str, *numbers: int) -> int:
    """Derive the seed of one stream: 63 bits of BLAKE2b of ``root/purpose/number/...``.

    ``root`` and ``numbers`` (seed, epoch, step, …) are any whole numbers; ``purpose`` is one of
    `PURPOSES`. Raises ValueError for another purpose, TypeError for a number that is not whole.

    >>> derive(0, "order", 1, 0) == derive(0, "order", 1, 0) != derive(0, "order", 0, 1)
    True
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}; got {purpose!r}.")
    words = [str(operator.index(root)), purpose, *(str(operator.index(n)) for n in numbers)]
    digest = hashlib.blake2b("/".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def draws(examples: int, root: int, purpose: str, *numbers: int) -> NDArray[np.int64]:
    """Draw ``examples`` numbers below ``examples``, with replacement, for one stream; as `permutation`.

    >>> draws(4, 0, "order", 0, 0).tolist()
    [2, 3, 0, 2]
    """
    bits = np.random.PCG64(derive(root, purpose, *numbers)).random_raw(examples)
    return ((bits >> np.uint64(11)) * 2.0**-53 * examples).astype(np.int64)


def permutation(examples: int, root: int, purpose: str, *numbers: int) -> NDArray[np.int64]:
    """Return 0 … examples − 1 in random order, for one stream; the other arguments are `derive`'s.

    The numbers are sorted by 64 random bits each: every order is equally likely but for two equal
    draws, which happen with probability below examples² / 2⁶⁵.

    >>> sorted(permutation(4, 0, "data").tolist())
    [0, 1, 2, 3]
    """
    bits = np.random.PCG64(derive(root, purpose, *numbers)).random_raw(examples)
    return np.argsort(bits, kind="stable").astype(np.int64, copy=False)


def order(root: int, seed: int, epoch: int, examples: int) -> NDArray[np.int64]:
    """Return the order in which one epoch visits the examples, in closed form.

    ``seed`` and ``epoch`` count from 0. No epoch depends on an earlier one.

    >>> order(root=0, seed=1, epoch=2, examples=5).tolist()
    [2, 1, 3, 4, 0]
    """
    return permutation(examples, root, "order", seed, epoch)


def sample(root: int, examples: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` different numbers below ``examples``, always the same ones: in the order of no epoch.

    >>> len(set(sample(root=0, examples=5, count=3).tolist()))
    3
    """
    return permutation(examples, root, "order", 0, -2)[:count]
