"""Minimise a function: line searches, second order, proximal steps, finite sums, and every rule."""
