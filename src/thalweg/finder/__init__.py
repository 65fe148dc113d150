"""Finders: a rate, a batch size, by measuring."""

from thalweg.finder.probe import probe_lr as probe_lr
from thalweg.finder.search import plan_finder as plan_finder
from thalweg.finder.trials import find as find
