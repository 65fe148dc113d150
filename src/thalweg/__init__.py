"""Thalweg: a workbench for gradient descent in PyTorch."""

__version__ = "0.1.0"
