"""From text to a stream of audio: sentences, turns inside an engine, one caller's stream."""
