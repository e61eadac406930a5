"""Checks that take longer than a test may, or need another machine."""
