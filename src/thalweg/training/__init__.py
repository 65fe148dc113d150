"""Training: the recipe, the one loop, control, engines, snapshots."""
