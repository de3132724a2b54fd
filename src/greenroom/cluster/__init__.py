"""Many workers as one: where a request goes, and those who send it there."""
