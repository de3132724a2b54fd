"""How Greenroom is shipped: an image, compose files, a chart, a unit; and what runs their steps."""
