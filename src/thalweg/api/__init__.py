"""The Python calls: they wire the parts together, keep what was done, and draw it."""

from thalweg.api.race import Showdown as Showdown
from thalweg.api.race import showdown as showdown
from thalweg.api.single import Training as Training
from thalweg.api.single import train as train
