"""Who computes the derivatives: the caller, the expression itself, PyTorch, or differences."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from thalweg.errors import InputError
from thalweg.solvers.base import Vector
from thalweg.solvers.finite_sum import FiniteSum
from thalweg.solvers.layout import Layout
from thalweg.solvers.objective import Counted, Derivatives, differences, plain

ONE_BY_ONE = 50  # coordinates of a given gradient that are checked one by one
WRONG_BY = 1e-3  # of the larger of gradient and differences: differences are good to 1e-6 or so of it


def derivatives_of(
    function: Any,
    layout: Layout,
    gradient: Callable[[Any], Any] | None,
    hessian: Callable[[Any], Any] | None,
    *,
    several: bool = False,
) -> Derivatives:
    """Return a function and its derivatives on vectors, and say who computes them.

    Args:
        function: takes a point as `layout` builds it. With the attributes `slope` and `curvature` (an
            `Expression`) it computes its own derivatives.
        layout: of the start; if that was a tensor, PyTorch computes the derivatives.
        gradient: what the caller gave, of a point; None for what there is otherwise.
        hessian: the same, (n, n).
        several: whether the function has several values: the gradient is a Jacobian, and no second
            derivatives are asked for.
    """
    own = hasattr(function, "slope") and hasattr(function, "curvature")
    if own:
        found = _of_expression(function)
    elif isinstance(function, FiniteSum):
        found = _of_sum(function, layout)
    elif layout.is_torch:
        found = _of_torch(function, layout, several)
    else:
        found = Derivatives(lambda x: _numbers(function(layout.point(x)), several))
    if several:
        found = Derivatives(found.value, found.gradient, by=found.by)
    if gradient is not None:
        found = Derivatives(
            found.value,
            (lambda x: gradient(layout.point(x)))
            if several
            else (lambda x: _flat(gradient(layout.point(x)), layout)),
            found.hessian,
            found.product,
            "the gradient that was given",
        )
    if hessian is not None:
        found = Derivatives(found.value, found.gradient, lambda x: hessian(layout.point(x)), by=found.by)
    return found


def check_gradient(objective: Counted, x: Vector) -> None:
    """Refuse a gradient that differs from central differences by more than 1e-3 of its size.

    A coordinate where the differences themselves are not sure (two steps of different length disagree: a
    kink, or rounding) is not judged. Of more than fifty coordinates all are checked at once, along a random
    direction.

    Raises:
        InputError: it names the coordinate, with both numbers.
    """
    residuals, names = objective.is_residuals, objective.layout.names
    given = objective.jacobian(x) if residuals else objective.gradient(x)
    value = objective.residuals(x) if residuals else objective.value(x)
    f, at = objective.derivatives.value, x
    if len(x) > ONE_BY_ONE:
        along = np.random.default_rng(0).standard_normal(len(x))
        along /= np.linalg.norm(along)
        given, at = (given @ along)[..., None], np.zeros(1)
        f = lambda t: objective.derivatives.value(x + t[0] * along)  # noqa: E731
        names = lambda: ["a random direction"]  # noqa: E731
    measured, again = differences(f, at, value), differences(f, at, value, longer=8.0)
    with np.errstate(invalid="ignore"):
        unsure = np.abs(measured - again)
        allowed = WRONG_BY * np.maximum(np.abs(given), np.abs(measured)) + 10 * unsure + 1e-7
        wrong = np.abs(given - measured) > allowed  # False where a difference is not finite
    if not wrong.any():
        return
    excess = np.where(wrong, np.abs(given - measured) / allowed, 0.0)
    place = np.unravel_index(int(np.argmax(excess)), excess.shape)
    row = f" of residual {place[0]}" if residuals else ""
    raise InputError(
        f"{'the Jacobian' if residuals else 'the gradient'} at the start",
        f"agree with differences, {measured[place]:.6g} for {names()[place[-1]]}{row}",
        f"{given[place]:.6g}",
        "Correct it, or leave it out: PyTorch or differences then find it.",
    )


def _of_expression(function: Any) -> Derivatives:
    return Derivatives(
        lambda x: np.asarray(function(x)).astype(np.float64)[()],
        function.slope,
        function.curvature,
        by="the expression's own derivative",
    )


def _of_sum(total: FiniteSum, layout: Layout) -> Derivatives:
    if [len(shape) for shape in layout.shapes.values()] != [1]:
        raise InputError("the start x0 of a FiniteSum", "be one vector", dict(layout.shapes))
    by = "the mean of the gradients of the terms"
    return Derivatives(total, total.gradient, by=by)


def _of_torch(function: Any, layout: Layout, several: bool) -> Derivatives:
    import torch

    differentiated: Any = torch.autograd.functional  # without types

    def tensor(x: Vector) -> Any:
        example = next(iter(layout.examples.values()))
        return torch.from_numpy(x.copy()).to(example)

    def flat(x: Any) -> Any:
        sizes = [int(np.prod(shape)) for shape in layout.shapes.values()]
        parts = zip(layout.shapes.items(), torch.split(x, sizes), strict=True)
        found = function(
            layout.built({n: p.reshape(shape).to(layout.examples[n]) for (n, shape), p in parts})
        )
        return _tensor(found, several)

    # The graph of the value is kept, so that the gradient at the same point is one backward pass.
    graph: list[Any] = [None, None, None]

    def value(x: Vector) -> Any:
        point = tensor(x).requires_grad_()
        with torch.enable_grad():
            found = flat(point)
        graph[:] = x.copy(), point, found
        return found.detach().cpu().double().numpy()[()]

    def gradient(x: Vector) -> Any:
        if graph[0] is None or not np.array_equal(graph[0], x):
            value(x)
        _, point, found = graph
        graph[:] = None, None, None
        if not found.requires_grad:
            return np.zeros_like(x)
        (slope,) = torch.autograd.grad(found, point, allow_unused=True)
        return np.zeros_like(x) if slope is None else slope.cpu().double().numpy()

    def jacobian(x: Vector) -> Any:
        return differentiated.jacobian(flat, tensor(x)).cpu().double().numpy()

    def hessian(x: Vector) -> Any:
        return differentiated.hessian(flat, tensor(x)).cpu().double().numpy()

    def product(x: Vector, v: Vector) -> Any:
        return differentiated.vhp(flat, tensor(x), tensor(v))[1].cpu().double().numpy()

    return Derivatives(value, jacobian if several else gradient, hessian, product, "PyTorch's autograd")


def _tensor(found: Any, several: bool) -> Any:
    """Return what a torch function gave, in the shape that is asked for, or say what is wrong with it."""
    import torch

    if not isinstance(found, torch.Tensor):
        raise InputError(
            "the value of the function",
            "be a tensor, as the start is one",
            type(found).__name__,
            "Start from a NumPy array or numbers if the function is not PyTorch's.",
        )
    if not several and found.numel() != 1:
        raise InputError("the value of the function", "be one number", f"the shape {tuple(found.shape)}")
    return found.reshape(-1) if several else found.reshape(())


def _numbers(found: Any, several: bool) -> Any:
    """Return what a NumPy function gave as numbers, or say what is wrong with it."""
    if hasattr(found, "detach"):
        raise InputError(
            "the start x0",
            "be a tensor if the function is PyTorch's",
            "no tensor",
            "Such as torch.tensor([0.0, 1.0]).",
        )
    array = np.asarray(found)
    if array.dtype.kind not in "fiub":
        raise InputError("the value of the function", "be a real number", repr(found)[:60])
    if several:
        return array.astype(np.float64).ravel()
    if array.size != 1:
        raise InputError("the value of the function", "be one number", f"the shape {array.shape}")
    return float(array.reshape(()))


def _flat(found: Any, layout: Layout) -> Vector:
    """Return a gradient that the caller computed as a vector; its parts must have the start's shapes."""
    if layout.kind is object:
        parts = {"": found}
    elif isinstance(found, Mapping) != (layout.kind is dict):
        raise InputError(
            "the gradient", f"be a {layout.kind.__name__}, as the start is", type(found).__name__
        )
    else:
        parts = found if layout.kind is dict else dict(zip(map(str, range(len(found))), found, strict=True))
    shapes = {str(name): plain(part).shape for name, part in parts.items()}
    if shapes != dict(layout.shapes):
        one = layout.kind is object
        raise InputError(
            "the gradient",
            f"have the shape of the start, {layout.shapes[''] if one else dict(layout.shapes)}",
            shapes.get("", shapes) if one else shapes,
            "One number for each coordinate.",
        )
    return layout.join({name: plain(part) for name, part in parts.items()})
