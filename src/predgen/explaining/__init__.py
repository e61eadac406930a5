"""Which words drove an answer: attributions by integrated gradients, or by leaving words out."""
