"""Parameter groups without pain: what is not to decay, rates by depth, rates of low-rank adapters."""

from typing import Any

from torch import nn

from thalweg.errors import InputError
from thalweg.hyper import ABOVE_0, AT_LEAST_0, Choice, Interval, Real
from thalweg.optim import roles, routing
from thalweg.optim.arguments import refuse_no_model

NO_DECAY = ("nothing", "biases and norms", "biases, norms and embeddings")
OPTIONS = {
    "no_decay": Choice("biases and norms", "which parameters get weight_decay = 0", NO_DECAY),
    "rate_decay": Real(
        None, "what the rate is multiplied by from one depth to the one below", Interval(0.0, 1.0)
    ),
    "lora_ratio": Real(None, "rate of the matrices B of adapters, as a multiple of that of A", ABOVE_0),
    "lr": Real(None, "rate", AT_LEAST_0),
}


def groups(
    model: nn.Module,
    *,
    no_decay: str = "biases and norms",
    rate_decay: float | None = None,
    lora_ratio: float | None = None,
    lr: float | None = None,
) -> list[dict[str, Any]]:
    """Return the parameters of a model in groups, for any optimizer: ``AdamW(groups(model), lr=…)``.

    Every parameter that is trained comes once, a tied one too. A group has its parameters with names, a
    `description`, `weight_decay` = 0 where there is to be none, and a `rate_factor`, which is what its rate
    is multiplied by, where that is not 1.

    Args:
        model: whose modules and names say what a parameter is for.
        no_decay: "nothing", "biases and norms", or "biases, norms and embeddings".
        rate_decay: δ in (0, 1]: the rate is multiplied by δ^(depth from the top). The head, and what stands
            after the blocks, is the top, the last block is one below, and so on to the embeddings. Blocks
            are found by
            themselves: see `roles.depths`.
        lora_ratio: the rate of the matrices B of low-rank adapters (named lora_B) over that of A; LoRA+
            (Hayou et al. 2024, arXiv 2402.12354) recommends 16.
        lr: the rate that the factors multiply, for optimizers that know no `rate_factor`, such as PyTorch's:
            each group then has its own `lr` instead.

    Raises:
        InputError: no model; an option out of range; no blocks, or no adapters, where they are asked for.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    >>> [(g["description"], [name for name, _ in g["params"]]) for g in groups(model)]
    [('all other parameters', ['0.weight']), ('no decay', ['0.bias', '1.weight', '1.bias'])]
    """
    refuse_no_model("the model to make groups of", model)
    for name, value in {
        "no_decay": no_decay,
        "rate_decay": rate_decay,
        "lora_ratio": lora_ratio,
        "lr": lr,
    }.items():
        if value is not None or name == "no_decay":
            OPTIONS[name].check(name, "the groups", value)
    if rate_decay == 0:
        raise InputError("rate_decay of the groups", "be above 0", rate_decay, "Freeze parameters instead.")
    still = set() if no_decay == "nothing" else roles.biases_and_norms(model)
    if no_decay == "biases, norms and embeddings":
        still |= roles.embeddings(model)
    depths = roles.depths(model) if rate_decay is not None else None
    adapters_b = _adapters_b(model) if lora_ratio is not None else set()
    aside = routing.not_hidden(model)

    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in roles.trained(model):
        factor, words = 1.0, []
        if depths is not None and rate_decay is not None:
            depth = depths.of[name]
            factor *= rate_decay ** (depths.blocks + 1 - depth)
            words.append(_place(depth, depths.blocks))
        if name in adapters_b and lora_ratio is not None:
            factor *= lora_ratio
            words.append("matrices B of adapters")
        if name in still:
            words.append("no decay")
        if factor != 1:
            words.append(f"rate × {factor:.4g}")
        new = {"params": [], "description": ", ".join(words), routing.NOT_HIDDEN: {}}
        group = found.setdefault((factor, *words), new)
        group["params"].append((name, parameter))
        group["description"] = group["description"] or "all other parameters"
        if name in still:
            group["weight_decay"] = 0.0
        if lr is not None:
            group["lr"] = lr * factor
        elif factor != 1:
            group["rate_factor"] = factor
        if name in aside:
            group[routing.NOT_HIDDEN][name] = aside[name]
    return list(found.values())


def _adapters_b(model: nn.Module) -> set[str]:
    a, b = roles.lora(model)
    if not (a and b):
        raise InputError(
            "the model", "have trained parameters named lora_A and lora_B for lora_ratio",
            f"{len(a)} of A and {len(b)} of B", "Add the adapters first, or leave lora_ratio out.",
        )  # fmt: skip
    return b


def _place(depth: int, blocks: int) -> str:
    if depth == 0:
        return "before the blocks"
    return f"block {depth} of {blocks}" if depth <= blocks else "after the blocks"
