"""What others' linters say of the image, the compose files and the chart, offline: `make ship`."""
