"""A fitted model behind HTTP: requests in batches, limits, keys, a page. Its packages are the extra `serve`."""
