"""Runs in worlds beyond language: `align METHOD --world NAME`."""
