"""A small world of tools: requests with known right calls, and a tiny model that calls tools with mistakes."""
