"""Hostile input for every door of Greenroom, seeded and bounded in time: `make fuzz`."""
