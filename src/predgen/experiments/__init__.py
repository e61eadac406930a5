"""Several models side by side: compare, tune, ablate, reproduce."""
