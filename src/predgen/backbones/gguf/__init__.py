"""GGUF files as backbones: what a file says, its tokenizer, its positions, and its weights out of their blocks."""
