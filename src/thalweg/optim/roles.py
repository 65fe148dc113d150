"""What the parameters of a model are for, read off modules and names: embeddings, head, norms, blocks.

Everything here goes by the type of the module that holds a parameter, by names, and by the order in which
modules were registered; a model that registers them in another order than it applies them is misread, and
`RuleOptimizer.routes` and the descriptions of `groups` show it.
"""

import re
from collections import Counter
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from thalweg.errors import InputError

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
MATRICES = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Tables that models keep as bare parameters: position embeddings, class and mask tokens.
EMBEDDING_NAME = re.compile(r"embed|(^|_)pos(itions?)?($|_)|(^|_)(cls|class|mask|dist)_token")
BIAS_NAME = re.compile(r"(^|_)bias($|_)")


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that are trained, each once, with their names."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def embeddings(model: nn.Module) -> set[str]:
    """Return the names of embeddings: of PyTorch's modules, and bare parameters that are called so.

    >>> model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3))
    >>> embeddings(model)
    {'0.weight'}
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, EMBEDDINGS)}
    bare = {
        id(p)
        for module in model.modules()
        if not isinstance(module, MATRICES)
        for name, p in module.named_parameters(recurse=False)
        if EMBEDDING_NAME.search(name)
    }
    return {name for name, p in model.named_parameters() if id(p) in tables | bare}


def head(model: nn.Module) -> set[str]:
    """Return the name of the weight of the last linear layer or convolution, and of its bias."""
    last = _matrix_modules(model)[-1:]
    return {name for name, p in model.named_parameters() for m in last if p is m.weight or p is m.bias}


def first_convolution(model: nn.Module) -> set[str]:
    """Return the name of the filters that see the input, where the first layer is a convolution."""
    layers = [m for m in model.modules() if isinstance(m, MATRICES + EMBEDDINGS)]
    return {
        name
        for name, p in model.named_parameters()
        for m in layers[:1]
        if isinstance(m, _ConvNd) and p is m.weight
    }


def biases_and_norms(model: nn.Module) -> set[str]:
    """Return the names of biases and of the parameters of norms, of PyTorch's or with a class named so.

    >>> sorted(biases_and_norms(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))))
    ['0.bias', '1.bias', '1.weight']
    """
    norms = {
        id(p)
        for m in model.modules()
        for p in m.parameters(recurse=False)
        if isinstance(m, NORMS) or ("norm" in type(m).__name__.lower() and p.ndim < 2)
    }
    return {
        name
        for name, p in model.named_parameters()
        if id(p) in norms or BIAS_NAME.search(name.rpartition(".")[2])
    }


def lora(model: nn.Module) -> tuple[set[str], set[str]]:
    """Return the names of the matrices A and B of low-rank adapters that are trained."""
    parts = {name: {part.lower() for part in name.split(".")} for name, _ in trained(model)}
    a, b = ({n for n, p in parts.items() if p & {f"lora_{x}", f"lora_embedding_{x}"}} for x in "ab")
    return a, b


class Depths(NamedTuple):
    """How deep each parameter lies: 0 before the blocks, 1 … blocks in them, blocks + 1 after them."""

    of: dict[str, int]
    blocks: int


def depths(model: nn.Module) -> Depths:
    """Return how deep each parameter lies.

    The longest `ModuleList` or `Sequential` of children of one type says what a block is; all modules of that
    type, in the order of registration, are the blocks. What stands between two of them counts to the first;
    embeddings outside of blocks come before them, and the head after them.

    Raises:
        InputError: there are not two such blocks.
    """
    at_the_end = head(model)
    blocks = [name for name in _blocks(model) if not _inside(name, at_the_end)]
    if len(blocks) < 2:
        raise InputError(
            "the model", "have at least two blocks of one type in a ModuleList or Sequential",
            f"{len(blocks)} in {type(model).__name__}", "Make the groups by hand, or leave rate_decay out.",
        )  # fmt: skip
    tables, of, reached = embeddings(model), {}, 0
    names = [name for name, _ in model.named_parameters()]
    last = max((i for i, name in enumerate(names) if _inside(blocks[-1], {name})), default=0)
    for place, name in enumerate(names):
        own = next((i for i, block in enumerate(blocks, 1) if name.startswith(f"{block}.")), 0)
        reached = max(reached, own)
        if own:
            of[name] = own
        elif name in tables:
            of[name] = 0
        else:
            of[name] = len(blocks) + 1 if place > last or name in at_the_end else reached
    return Depths(of, len(blocks))


def _matrix_modules(model: nn.Module) -> list[nn.Module]:
    return [
        m
        for m in model.modules()
        if isinstance(m, MATRICES) and isinstance(getattr(m, "weight", None), Tensor)
    ]


def _inside(block: str, names: set[str]) -> bool:
    return any(name.startswith(f"{block}.") for name in names)


def _blocks(model: nn.Module) -> list[str]:
    """Return the names of all modules of the type of which the longest container has most."""
    kinds = Counter[type]()
    for container in model.modules():
        if isinstance(container, nn.ModuleList | nn.Sequential):
            counted = Counter(
                type(child)
                for child in container.children()
                if not isinstance(child, NORMS) and any(True for _ in child.parameters())
            )
            kinds |= counted  # the most that one container has
    if not kinds:
        return []
    kind: Any = kinds.most_common(1)[0][0]
    found: list[str] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if type(module) is kind and not nested and any(True for _ in module.parameters()):
            found.append(name)
    return found
