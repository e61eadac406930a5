"""A search in trials for one's own model: what is searched, each process's trials, and the whole."""
