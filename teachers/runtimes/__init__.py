"""Source networks in their own runtimes: to compare with, and to teach what cannot be converted."""
