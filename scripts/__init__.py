"""What made builtin:nano, the tables in docs/, and checks that are too long for a test."""
