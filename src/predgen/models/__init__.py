"""A method with its settings: built, asked, saved, loaded."""
