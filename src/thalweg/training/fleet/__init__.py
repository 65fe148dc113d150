"""The engine with many rows: replicas of one task, stacked along a leading axis."""
