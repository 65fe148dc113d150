"""Finders: a rate, a batch size, by measuring."""
