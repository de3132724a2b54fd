"""What could be loaded: the catalog of models, the registry of adapters, and discovery on disk."""
