"""What a backbone is and needs, before anything is fitted."""
