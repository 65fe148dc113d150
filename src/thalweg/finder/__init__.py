"""Finders: a rate, a batch size, by measuring."""

from thalweg.finder.search import find as find
from thalweg.finder.search import plan_finder as plan_finder
