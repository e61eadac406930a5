"""A value's one path through the target automaton, and back."""
