"""The networks of `fleet.py`'s workloads, and those that are no built-in tasks as tasks."""

import math
from typing import Any

import torch
from _fleet_data import ALPHABET, CONTEXT, parts
from _fleet_work import WORKS
from torch import Tensor, nn

WIDTH, HEADS, LAYERS = 64, 2, 2


def mlp(inputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def digits() -> nn.Module:
    return mlp(64, 32)


def mnist() -> nn.Module:
    return mlp(784, 128)


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 7 * 7, 10)),
    )


class Block(nn.Module):
    """Attention to the characters before, then a network of one hidden layer; each is added."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.heads_to_width = nn.Linear(WIDTH, WIDTH)
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.heads_to_width(self.attention(self.attention_norm(x)))
        return x + self.network(x)

    def attention(self, x: Tensor) -> Tensor:
        split = self.queries_keys_values(x).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        q, k, v = split.transpose(1, 3).unbind(2)  # (batch, heads, length, width of a head) each
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = (q @ k.mT / math.sqrt(WIDTH // HEADS)).masked_fill(later, -math.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """Logits of the character after each of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(ALPHABET)))
        for embedding in (self.characters, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.blocks(self.characters(text) + self.positions.weight[: text.shape[1]]))


MODELS = {"digits": digits, "mnist": mnist, "cnn": cnn, "text": Transformer}


def loss(model: nn.Module, batch: Any) -> Tensor:
    logits, labels = model(batch[0]), batch[1]
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _data(work: str) -> dict[str, Any]:
    found = parts(work, "")
    aside = (found.x_validation, found.y_validation)
    return {"train": (found.x, found.y), "validation": aside, "test": aside}


def cnn_data(seed: int) -> dict[str, Any]:
    del seed
    return _data("cnn")


def text_data(seed: int) -> dict[str, Any]:
    del seed
    return _data("text")


DATA = {"cnn": cnn_data, "text": text_data}


def task(work: str) -> Any:
    """Return what Thalweg is asked to train: the name of a built-in task, or a task."""
    if work not in DATA:
        return work
    from thalweg.tasks import Task

    return Task(MODELS[work], DATA[work], loss, name=work, batch_size=WORKS[work].batch_size)
