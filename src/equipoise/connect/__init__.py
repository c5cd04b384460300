"""Connections to other software: configurations of other preference trainers, read as ours.

foreign        how a foreign file is read: YAML, a shell command's flags, the arguments of a Python call
meanings       what one of their settings is here; a translation, and how it gathers what has no equivalent
common         settings that several trainers share (Hugging Face's training arguments, LoRA, precision)
losses         their losses as our methods, with parameters
trl, axolotl, llama_factory, openrlhf     the settings of each, and how its data are named
configuration  a file in, a translation out
names          what a setting of any of them is called here, for error messages
"""
