"""What the commands share: what they print, read, log and play, and how signals end them."""
