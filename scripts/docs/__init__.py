"""What makes the reference of the docs site."""
