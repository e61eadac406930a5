"""A fitted predictor as a folder that other programs load."""
