"""What the fuzzer draws, a module for each kind of input; `scripts/checks/fuzz.py` runs them."""
