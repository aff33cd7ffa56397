"""Generated from proto/protos/engine by tools/generate_stubs.py."""
