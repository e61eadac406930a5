"""The text, the pretraining and the measurements of builtin:nano."""
