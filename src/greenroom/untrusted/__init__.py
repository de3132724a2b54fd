"""What comes from outside, checked, bounded and converted once: values, files, errors, names."""
