"""What a file may hold before it is opened, where it came from, and all writing."""
