"""Executors decide how trials run, never what they mean."""
