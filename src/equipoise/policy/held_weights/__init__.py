"""Frozen weights under an adapter, as they are held: in bf16, or quantised.

frozen_base            which base is held how, its record beside a checkpoint, and the rounding of another
quantized              4- and 8-bit linear layers by bitsandbytes, dequantised for every product
quantization_library   bitsandbytes, or a sentence on what to install
"""
