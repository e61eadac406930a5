"""What made the tables of the results pages."""
