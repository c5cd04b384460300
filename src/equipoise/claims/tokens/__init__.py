"""Credit within a response: losses that weigh tokens, steps or rationales.

`frontier` compares losses on token trees at equal KL; `tiny_fits` fits the playground's transformer.
"""
