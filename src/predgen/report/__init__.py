"""What people read: tables of comparisons and evaluations."""
