"""What a method's page says beside its formula: plain text, from which help and documentation are made."""

from typing import NamedTuple


class About(NamedTuple):
    """When to take a method, what it costs, and what is often said about it that is not so."""

    family: str = ""  # one of FAMILIES
    year: int = 0
    paper: str = ""  # authors, title, arXiv number or venue
    cost: str = ""  # of a step, beside the gradient, in words: "2 products of matrices a step"
    take: str = ""  # when to take it
    avoid: str = ""  # when not to
    differs: tuple[str, ...] = ()  # what other libraries compute under this name, one sentence each
    wrong: tuple[str, ...] = ()  # what common sources get wrong, one sentence each


FAMILIES = (
    "gradient descent",
    "adaptive",
    "sign",
    "large batch",
    "curvature",
    "matrix",
    "schedule-free",
    "rate-free",
    "low memory",
)
