"""Run workers on real services, read and audit their topics, print one line of JSON: shared by verification and benchmarks."""
