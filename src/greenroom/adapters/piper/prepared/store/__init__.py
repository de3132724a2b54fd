"""What lies on disk: prepared voices by content, bounded, and nothing believed unchecked."""
