"""What could be loaded: the catalog, the adapters by name, and what they find on disk."""
