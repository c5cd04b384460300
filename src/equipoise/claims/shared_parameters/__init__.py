"""Effects of parameters that all prompts share, as a network's are: forgetting, and self-play towards data.

`shared_world` is a table world whose policies share parameters; both programs play the methods themselves in it.
"""
