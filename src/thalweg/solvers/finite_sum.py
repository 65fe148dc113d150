"""A mean of many terms, F(x) = (1/n)·Σ fᵢ(x), whose terms can be asked for one by one."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.solvers.base import Matrix, Vector

CHUNK = 4096  # rows of gradients at once: what is summed over all terms needs no more memory
Places = NDArray[np.int64]


class FiniteSum:
    """The mean of the losses of n examples, F(x) = (1/n)·Σ fᵢ(x): a function of x, with terms.

    It can be called, so that every method minimises it; SVRG, SAGA and stochastic gradient descent ask for
    the gradients of single terms, which `evaluated` counts, from 0 when it is made.

    Args:
        losses: a function `losses(x, *batch)` that returns one loss an example, (b,); x is a vector (p,),
            and the batch holds the same b examples of every array of the data. What penalises x may be in
            it, in each loss.
        *data: arrays, or torch tensors, with n examples along the first axis.
        gradients: `gradients(x, *batch)` returns the gradient of each loss, (b, p). Tensors do not need it:
            autograd knows.

    Raises:
        InputError: the arrays differ in length or have none; or are no tensors, and there are no gradients.

    The mean of ½(x − 1)² and ½(x − 3)² is lowest at 2:

    >>> total = FiniteSum(
    ...     lambda x, a: 0.5 * (x - a) ** 2, np.array([1.0, 3.0]), gradients=lambda x, a: (x - a)[:, None]
    ... )
    >>> x = np.array([2.0])
    >>> total(x), total.gradient(x).tolist(), total.rows(x, np.array([1])).tolist(), total.evaluated
    (0.5, [0.0], [[-1.0]], 1)
    """

    def __init__(
        self,
        losses: Callable[..., Any],
        *data: Any,
        gradients: Callable[..., Any] | None = None,
    ) -> None:
        torch = sys.modules.get("torch")  # nobody has a tensor who did not import it
        tensors = torch is not None and any(isinstance(array, torch.Tensor) for array in data)
        self.data: tuple[Any, ...] = data if tensors else tuple(np.asarray(array) for array in data)
        lengths = sorted({len(array) if np.ndim(array) else 0 for array in self.data})
        if len(lengths) != 1 or lengths[0] == 0:
            raise InputError("the data of a sum", "be arrays with one number of examples", lengths or "none")
        if gradients is None and not tensors:
            raise InputError(
                "gradients of a sum",
                "be given with NumPy arrays",
                "none",
                "Pass gradients=, which returns one row an example, or the data as torch tensors.",
            )
        self.losses, self.gradients = losses, gradients
        self.examples = lengths[0]
        self.evaluated = 0  # gradients of single terms that methods have asked for
        self._torch = torch if tensors else None

    def __call__(self, x: Vector) -> float:
        """Return F(x)."""
        parts = [self._losses(self._point(x), self._batch(places)) for places in self._chunks()]
        return sum(float(part.sum()) for part in parts) / self.examples

    def gradient(self, x: Vector) -> Vector:
        """Return ∇F(x), (p,); not counted, because whoever minimises F counts it."""
        return self._sum(x) / self.examples

    def full(self, x: Vector) -> Vector:
        """Return ∇F(x), (p,), counted as n gradients of terms."""
        self.evaluated += self.examples
        return self.gradient(x)

    def rows(self, x: Vector, places: Places) -> Matrix:
        """Return ∇fᵢ(x) for the examples at some places, (b, p), counted."""
        self.evaluated += len(places)
        return self._rows(x, places)

    def _rows(self, x: Vector, places: Places) -> Matrix:
        batch = self._batch(places)
        if self.gradients is not None:
            found = self.gradients(self._point(x), *batch)
            rows = np.asarray(found if self._torch is None else found.detach().cpu(), np.float64)
        else:
            assert self._torch is not None
            point = self._point(x).requires_grad_()
            losses = self._losses(point, batch)
            every = self._torch.eye(len(places), dtype=losses.dtype, device=losses.device)
            found = self._torch.autograd.grad(losses, point, every, is_grads_batched=True)[0]
            rows = found.cpu().double().numpy()
        if rows.shape != (len(places), len(x)):
            must = f"return one row an example, {(len(places), len(x))}"
            raise InputError("gradients of a sum", must, rows.shape)
        return rows

    def _sum(self, x: Vector) -> Vector:
        if self.gradients is not None:
            return sum((self._rows(x, places).sum(axis=0) for places in self._chunks()), np.zeros(len(x)))
        assert self._torch is not None
        total = np.zeros(len(x))
        for places in self._chunks():
            point = self._point(x).requires_grad_()
            losses = self._losses(point, self._batch(places)).sum()
            total += self._torch.autograd.grad(losses, point)[0].cpu().double().numpy()
        return total

    def _losses(self, point: Any, batch: tuple[Any, ...]) -> Any:
        found = self.losses(point, *batch)
        if np.shape(found) != (len(batch[0]),):
            must = f"return one loss an example, {(len(batch[0]),)}"
            raise InputError("losses of a sum", must, np.shape(found), "Leave out the mean, or the sum.")
        return found

    def _chunks(self) -> list[Places]:
        every = np.arange(self.examples)
        return [every[start : start + CHUNK] for start in range(0, self.examples, CHUNK)]

    def _batch(self, places: Places) -> tuple[Any, ...]:
        if self._torch is not None:
            return tuple(array[self._torch.from_numpy(places).to(array.device)] for array in self.data)
        return tuple(array[places] for array in self.data)

    def _point(self, x: Vector) -> Any:
        """Return x as what the losses take: beside tensors, in the type of the first of real numbers."""
        if self._torch is None:
            return x
        like = next((array for array in self.data if array.is_floating_point()), None)
        if like is None:
            return self._torch.from_numpy(x.copy()).to(self.data[0].device)
        return self._torch.from_numpy(x.copy()).to(like)
