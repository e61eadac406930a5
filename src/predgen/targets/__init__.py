"""What can be predicted: cell, value, text."""
