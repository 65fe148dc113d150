"""Who suggests a rate in `finder.py`: ours, other packages' finders, and no finder at all."""

from typing import NamedTuple

OURS = "ours"
CENTRE = "centre"


class Method(NamedTuple):
    """A way to come by a rate, and whose it is."""

    title: str
    package: str


PEERS = {
    "torch-lr-finder": Method("torch-lr-finder", "torch-lr-finder"),
    "lightning": Method("lightning", "lightning"),
    "valley": Method("fastai valley", "fastai"),
    "slide": Method("fastai slide", "fastai"),
    "steep": Method("fastai steep", "fastai"),
    "minimum": Method("fastai minimum/10", "fastai"),
}
METHODS = {
    OURS: Method("thalweg", "thalweg"),
    **PEERS,
    CENTRE: Method("the centre", "thalweg"),  # of the search for an optimizer's rate, whatever the task
}
