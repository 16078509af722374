"""What a run is; what runs it; what records it; one tidy frame of all results."""
