"""`python -m predgen.bench CELL RIVAL DEVICE THREADS`: the peak memory of a single rival, for `memory.py`."""

import json
import sys

import torch

from predgen.bench.memory import memory_here
from predgen.bench.shapes import Cell
from predgen.parallel.threads import keep_threads

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    keep_threads()
    print(json.dumps(memory_here(Cell(**json.loads(sys.argv[1])), sys.argv[2], sys.argv[3])))
