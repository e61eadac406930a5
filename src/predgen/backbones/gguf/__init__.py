"""GGUF files as backbones: what the file says, its tokenizer, its positions, and its weights taken out of their blocks."""
