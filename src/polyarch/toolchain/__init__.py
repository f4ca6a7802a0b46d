"""The cross toolchain: what a native stage needs to compile for another platform, as files for a Dockerfile to copy."""
