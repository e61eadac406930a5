"""From a memory to written targets and their probabilities."""
