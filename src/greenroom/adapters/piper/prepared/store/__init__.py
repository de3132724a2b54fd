"""Prepared voices on disk: by content, bounded in size, and nothing believed unchecked."""
