"""Rows: read, split, checked, and turned into prompts."""
