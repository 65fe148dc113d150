"""What is known about carrying hyperparameters over: between methods, conventions and batch sizes."""
