"""Tiny Shakespeare: what is the next character? A transformer of 2 layers, width 64, 4 heads, context 64.

The text is that of A. Karpathy's char-rnn: 1,115,394 characters, of which the first nine tenths are for
training, and half of the rest each for validation and test. The blocks are those of GPT-2 (A. Radford and
others, 2019): normalised before each part, learned positions; the output has weights of its own.
"""

import math

import numpy as np
import torch
from data_files import find
from torch import nn

from thalweg.errors import InputError
from thalweg.tasks import Classification
from thalweg.tasks.metrics import accuracy

ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LAYERS, WIDTH, HEADS, CONTEXT = 2, 64, 4, 64
WINDOWS = 16_000  # of the training text, at places drawn by the seed: 500 updates of 32 are an epoch

kind = Classification(len(ALPHABET))
epochs = 2
batch_size = 32
directions = {"bits_per_character": "lower"}


class Block(nn.Module):
    """Attention to the characters before, then a network of one hidden layer; each is added."""

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.heads_to_width = nn.Linear(WIDTH, WIDTH)
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):  # (batch, length, width)
        x = x + self.heads_to_width(self.attention(self.attention_norm(x)))
        return x + self.network(x)

    def attention(self, x):
        """softmax(Q Kᵀ/√d) V for each head, written out, so that it can be differentiated twice."""
        split = self.queries_keys_values(x).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        q, k, v = split.transpose(1, 3).unbind(2)  # (batch, heads, length, width of a head) each
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.mT / math.sqrt(WIDTH // HEADS)).masked_fill(later, -math.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """Logits (batch, length, characters) of the character after each of a text (batch, length)."""

    def __init__(self):
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(ALPHABET)))
        for embedding in (self.characters, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, text):
        positions = torch.arange(text.shape[1], device=text.device)
        return self.head(self.blocks(self.characters(text) + self.positions(positions)))


def make_model():
    return Transformer()


def make_data(seed):
    path = find(
        "tiny Shakespeare",
        ("tiny_shakespeare/input.txt",),
        "It is data/tinyshakespeare/input.txt of https://github.com/karpathy/char-rnn.",
    )
    try:
        text = path.read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file {path}", "be readable ASCII", error, "Fetch it anew.") from error
    if strange := set(text) - set(ALPHABET):
        got = repr(min(strange))
        raise InputError(f"the file {path}", "hold the characters of ALPHABET only", got, "Change ALPHABET.")
    numbers = np.array([ALPHABET.index(character) for character in text])
    train, validation, test = np.split(numbers, [len(text) * 90 // 100, len(text) * 95 // 100])
    places = np.random.default_rng(seed).integers(0, len(train) - CONTEXT, WINDOWS)
    return {
        "train": _windows(train, places),
        "validation": _side_by_side(validation),
        "test": _side_by_side(test),
    }


def loss(model, batch):
    text, following = batch
    return nn.functional.cross_entropy(model(text).flatten(0, 1), following.flatten())


def metrics(model, batch):
    logits, following = model(batch[0]).flatten(0, 1), batch[1].flatten()
    bits = nn.functional.cross_entropy(logits, following) / math.log(2)
    return {"bits_per_character": bits, "accuracy": accuracy(logits, following)}


def _windows(text, places):
    """The windows that begin at these places, and the same, one character further."""
    window = np.asarray(places)[:, None] + np.arange(CONTEXT)
    return text[window], text[window + 1]


def _side_by_side(text):
    return _windows(text, np.arange(0, len(text) - CONTEXT, CONTEXT))
