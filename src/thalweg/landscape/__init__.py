"""The loss around a trained network: slices along directions, and the path of the training in its plane."""

from thalweg.landscape.directions import difference as difference
from thalweg.landscape.directions import random_direction as random_direction
from thalweg.landscape.slices import slice_of as slice_of
