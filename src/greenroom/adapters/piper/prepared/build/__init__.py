"""How a voice is prepared, in a process of its own: its graph cut, optimised and proved equal."""
