"""Several processes that train one model, and threads beside other programs."""
