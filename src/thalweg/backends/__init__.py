"""What runs a rule: NumPy for reading, torch for training."""
