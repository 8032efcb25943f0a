"""SavedModels: reading them, and the graph of a signature."""
