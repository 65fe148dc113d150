"""Directions in the space of weights: random ones, each filter as long as the weights', and differences."""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from thalweg import seeds
from thalweg.errors import InputError

Direction: TypeAlias = Mapping[str, Tensor]  # by the name of the parameter; what is not named stays


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name: the tensors themselves, without their history."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def random_direction(model: nn.Module, seed: int, number: int = 0, biases: bool = False) -> dict[str, Tensor]:
    """Draw a Gaussian direction and make each of its filters as long as that filter of the weights.

        d_i ← d_i · ‖θ_i‖ / ‖d_i‖    for each filter i

    A filter is a row along the first axis of a parameter with two axes or more: the weights into one unit, or
    into one channel of a convolution. A network with ReLU or normalisation computes the same when a filter is
    scaled and the next layer takes it back; a step of fixed length then means something else, one in units of
    the filters does not. Parameters with one axis or none (biases, scale and shift of normalisation) stay.

    Args:
        model: whose weights the direction belongs to; it is only read.
        seed: the root of the random numbers.
        number: which direction of this seed, from 0.
        biases: draw also the parameters with one axis, each as long as that parameter.

    Raises:
        InputError: nothing would move.

    >>> direction = random_direction(nn.Linear(3, 2), seed=0)
    >>> {name: tuple(d.shape) for name, d in direction.items()}
    {'weight': (2, 3)}

    Source: Li et al., Visualizing the loss landscape of neural nets (2018), arXiv 1712.09913, section 4, with
    the biases left out as in their code.
    """
    generator = np.random.default_rng(seeds.derive(seed, "bootstrap", number))
    direction = {}
    for name, weight in weights_of(model).items():
        # Drawn for every parameter: whether biases move does not change what the others get.
        drawn = generator.standard_normal(tuple(weight.shape))
        if not weight.is_floating_point() or (weight.ndim < 2 and not biases):
            continue
        d = torch.from_numpy(np.asarray(drawn)).to(device=weight.device, dtype=weight.dtype)
        rows = d.flatten(1) if d.ndim > 1 else d.reshape(1, -1)
        own = weight.reshape(rows.shape)
        scale = torch.linalg.vector_norm(own, dim=1) / torch.linalg.vector_norm(rows, dim=1)
        direction[name] = (rows * scale[:, None]).reshape(weight.shape)
    if not any(d.any() for d in direction.values()):
        raise InputError(
            "the model",
            "have a weight with two axes or more that is not 0",
            "none",
            "Move its biases too: --biases, or biases=True.",
        )
    return direction


def difference(model: nn.Module, other: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the direction that leads from a model at 0 to other weights of the same model at 1.

    The slice along it is the linear interpolation of two solutions. Buffers stay those of the first: with
    BatchNorm, whose statistics belong to the weights that they were taken of, a barrier between the two may
    be that alone.

    Args:
        model: from where.
        other: to where: a model, or its ``state_dict()``.

    Raises:
        InputError: it has not the same parameters.

    >>> a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(a.weight, 2.0), nn.init.constant_(b.weight, 5.0)
    >>> difference(a, b)["weight"].item()
    3.0
    """
    there = other.state_dict() if isinstance(other, nn.Module) else other
    found = {}
    for name, weight in weights_of(model).items():
        if name not in there or there[name].shape != weight.shape:
            got = f"{name} of shape {tuple(there[name].shape)}" if name in there else f"no {name}"
            raise InputError("the other weights", f"have {name} of shape {tuple(weight.shape)}", got)
        found[name] = there[name].detach().to(weight) - weight
    return found


def length(direction: Direction) -> float:
    """Return the Euclidean length of a direction over all parameters together."""
    return math.sqrt(dot(direction, direction))


def dot(a: Direction, b: Direction) -> float:
    """Return the inner product of two directions over all parameters together, in float64."""
    return sum([float((a[n].double() * b[n].double()).sum()) for n in a if n in b], 0.0)
