"""The run folder of any world that trains: its journal of stages, and the manifest of what was written."""
