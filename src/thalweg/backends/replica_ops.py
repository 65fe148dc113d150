"""What torch's element-by-element operations compute, as formulas; operands have the type of the result.

Where a comparison decides, NaN takes the branch that it takes in torch: `relu` of NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

from thalweg.backends.replica_text import floating
from thalweg.backends.replica_values import Operand, Value, expression, where
from thalweg.backends.symbols import Untraceable


def exp(x: Value) -> Value:
    """Return eˣ."""
    return expression("exp", x)


def _scaled(x: Any, alpha: Any) -> Any:
    return x if isinstance(alpha, int | float) and alpha == 1 else x * alpha


def _one_of(name: str, x: Operand, y: Operand) -> Value:
    return expression(name, x, y)


def _clamp(x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    if low is not None:
        x = _one_of("max", x, low)
    return x if high is None else _one_of("min", x, high)


def _power(x: Value, exponent: float) -> Value:
    known: dict[float, Callable[[], Any]] = {
        1: lambda: x,
        2: lambda: x * x,
        3: lambda: x * x * x,
        0.5: lambda: expression("sqrt", x),
        -0.5: lambda: 1 / expression("sqrt", x),
        -1: lambda: 1 / x,
        -2: lambda: 1 / (x * x),
    }
    if exponent in known and (floating(x.dtype) or exponent in (1, 2, 3)):
        return known[exponent]()  # type: ignore[no-any-return]
    if not floating(x.dtype):
        raise Untraceable(f"A power of whole numbers must be 1, 2 or 3; got: {exponent}.")
    return expression("pow", x, exponent)


def _sign(x: Value) -> Value:
    # 0 of NaN, as torch has it
    return where(x > 0, 1, where(x < 0, -1, 0, x.dtype), x.dtype)


def sigmoid(x: Value) -> Value:
    """Return 1 / (1 + e⁻ˣ)."""
    return 1 / (1 + exp(-x))


def _log_sigmoid(x: Value) -> tuple[Value, Value]:
    small = exp(-expression("abs", x))
    return _one_of("min", x, 0.0) - expression("log1p", small), small


def _log_sigmoid_backward(g: Value, x: Value, small: Value) -> Value:
    del small  # torch leaves it empty on some processors
    z = exp(-expression("abs", x))
    ratio = z / (1 + z)
    return g * where(x < 0, 1 - ratio, ratio)


def _gelu(x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        inner = sqrt(2 / pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1 + expression("tanh", inner))
    return x * 0.5 * (1 + expression("erf", x * sqrt(0.5)))


def _gelu_backward(g: Value, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        inner = sqrt(2 / pi) * (x + 0.044715 * (x * x * x))
        t = expression("tanh", inner)
        slope = (1 - t * t) * (sqrt(2 / pi) * (1 + 3 * 0.044715 * (x * x)))
        return g * (0.5 * (1 + t) + 0.5 * x * slope)
    cdf = 0.5 * (1 + expression("erf", x * sqrt(0.5)))
    return g * (cdf + x * (exp(-0.5 * (x * x)) * (1 / sqrt(2 * pi))))


def _elu(x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    return where(x <= 0, expression("expm1", x * input_scale) * (alpha * scale), x * scale)


def _elu_backward(
    g: Value, alpha: float, scale: float, input_scale: float, is_result: bool, y: Value
) -> Value:
    if is_result:
        return where(y <= 0, g * input_scale * (y + alpha * scale), g * scale)
    return where(y <= 0, g * (input_scale * alpha * scale) * exp(y * input_scale), g * scale)


def _softplus(x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return where(x * beta > threshold, x, expression("log1p", exp(x * beta)) / beta)


def _softplus_backward(g: Value, x: Value, beta: float, threshold: float) -> Value:
    z = exp(x * beta)
    return where(x * beta > threshold, g, g * z / (z + 1))


def _silu_backward(g: Value, x: Value) -> Value:
    s = sigmoid(x)
    return g * s * (1 + x * (1 - s))


def _each(reduction: int) -> None:
    if reduction != 0:  # a sum over all replicas
        raise Untraceable("A loss must be of one replica; got one of all together.")


def _mse(x: Value, y: Value, reduction: int = 1) -> Value:
    _each(reduction)
    return (x - y) * (x - y)


def _mse_backward(g: Value, x: Value, y: Value, reduction: int) -> Value:
    _each(reduction)
    return 2 * (x - y) * g


def _huber(x: Value, y: Value, reduction: int = 1, delta: float = 1.0) -> Value:
    _each(reduction)
    z = expression("abs", x - y)
    return where(z <= delta, 0.5 * z * z, delta * (z - 0.5 * delta))


def _huber_backward(g: Value, x: Value, y: Value, reduction: int, delta: float) -> Value:
    _each(reduction)
    z = x - y
    return where(z < -delta, -delta * g, where(z > delta, delta * g, z * g))


def _smooth(x: Value, y: Value, reduction: int = 1, beta: float = 1.0) -> Value:
    _each(reduction)
    z = expression("abs", x - y)
    return where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta)


def _smooth_backward(g: Value, x: Value, y: Value, reduction: int, beta: float) -> Value:
    _each(reduction)
    z = x - y
    return where(z <= -beta, -g, where(z >= beta, g, z * g / beta))


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise Untraceable(f"A quotient must not be rounded; got: {rounding_mode}.")
    return expression("div", x, y)


def _unary(name: str) -> Callable[[Value], Value]:
    return lambda x: expression(name, x)


# By torch's name. Signatures are those of its schemas.
FORMULAS: dict[str, Callable[..., Any]] = {
    **{name: _unary(name) for name in ("neg", "abs", "sqrt", "exp", "log", "tanh", "log1p", "expm1", "erf")},
    "sin": _unary("sin"),
    "cos": _unary("cos"),
    "add": lambda x, y, alpha=1: expression("add", x, _scaled(y, alpha)),
    "sub": lambda x, y, alpha=1: expression("sub", x, _scaled(y, alpha)),
    "rsub": lambda x, y, alpha=1: expression("sub", y, _scaled(x, alpha)),
    "mul": _scaled,
    "div": _divide,
    "addcmul": lambda x, y, z, value=1: x + _scaled(y * z, value),
    "addcdiv": lambda x, y, z, value=1: x + _scaled(y / z, value),
    "lerp": lambda x, y, weight: x + weight * (y - x),
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "rsqrt": lambda x: 1 / expression("sqrt", x),
    "pow": _power,
    "sign": _sign,
    "sgn": _sign,
    "maximum": lambda x, y: _one_of("max", x, y),
    "minimum": lambda x, y: _one_of("min", x, y),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "relu": lambda x: where(x <= 0, 0, x),
    "threshold": lambda x, threshold, value: where(x <= threshold, value, x),
    "threshold_backward": lambda g, x, threshold: where(x <= threshold, 0, g),
    "sigmoid": sigmoid,
    "sigmoid_backward": lambda g, y: g * ((1 - y) * y),
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "silu": lambda x: x * sigmoid(x),
    "silu_backward": _silu_backward,
    "gelu": _gelu,
    "gelu_backward": _gelu_backward,
    "elu": _elu,
    "elu_backward": _elu_backward,
    "leaky_relu": lambda x, slope=0.01: where(x > 0, x, x * slope),
    "leaky_relu_backward": lambda g, x, slope, is_result: where(x > 0, g, g * slope),
    "hardtanh": lambda x, low=-1, high=1: _clamp(x, low, high),
    "hardtanh_backward": lambda g, x, low, high: where(x <= low, 0, where(x >= high, 0, g)),
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "log_sigmoid_forward": _log_sigmoid,
    "log_sigmoid_backward": _log_sigmoid_backward,
    "mse_loss": _mse,
    "mse_loss_backward": _mse_backward,
    "huber_loss": _huber,
    "huber_loss_backward": _huber_backward,
    "smooth_l1_loss": _smooth,
    "smooth_l1_loss_backward": _smooth_backward,
}
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
LOGIC = {
    "logical_not": "not",
    "bitwise_not": "not",
    "logical_and": "and",
    "bitwise_and": "and",
    "logical_or": "or",
    "bitwise_or": "or",
}
# What says how an array is seen, and moves nothing.
VIEWS = frozenset(
    {
        "alias",
        "detach",
        "diagonal",
        "expand",
        "permute",
        "reshape",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "squeeze",
        "t",
        "transpose",
        "unfold",
        "unsqueeze",
        "view",
        "_unsafe_view",
        "_reshape_alias",
    }
)
SAME = frozenset({"alias", "detach", "clone", "lift_fresh_copy", "contiguous"})
FULL = {
    "zeros_like": 0,
    "new_zeros": 0,
    "ones_like": 1,
    "new_ones": 1,
    "empty_like": 0,
    "new_empty": 0,
    "zero": 0,
}
GIVEN = {"full_like": 1, "new_full": 2, "fill": 1}  # where the number stands
