"""Rows: read, split, checked, and saved."""
