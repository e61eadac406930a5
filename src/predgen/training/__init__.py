"""From a table to a fitted model."""
